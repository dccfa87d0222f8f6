"""Opens what a compile starts from: the model, prepared for the target, and its calibration samples.

A target that must know the sizes of the inputs beforehand gets those that the user states. Where nobody states any and
all samples have the same, it gets those.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from qcompiler import ir
from qcompiler.backends.base import Backend
from qcompiler.data import Data, InputInfo, Source, open_source
from qcompiler.data.implied import listed
from qcompiler.data.sizes import agreed_sizes, is_open
from qcompiler.errors import UsageError
from qcompiler.frontend import Frontend, front, read, stated_inputs
from qcompiler.recipe import Recipe


@dataclass(frozen=True, eq=False)
class Opened:
    """See the module.

    Attributes:
        frontend: the model.
        source: calibration samples; None without data.
        notes: what a reader should know.
    """

    frontend: Frontend
    source: Source | None
    notes: tuple[str, ...] = ()

    @property
    def samples(self) -> Source:
        """The calibration samples.

        Raises:
            UsageError: there are none.
        """
        if self.source is None:
            raise UsageError("needs calibration samples", where="--data")
        return self.source


def check_precision(backend: Backend, recipe: Recipe, *, known: bool) -> None:
    """Refuses a precision that the target does not have, or that nothing here gives ranges for.

    Raises:
        UsageError: naming what would do.
    """
    spec = backend.spec
    if recipe.precision not in spec.precisions:
        hint = f"known: {', '.join(spec.precisions)}"
        raise UsageError(f"target {spec.name!r} has no precision {recipe.precision!r}", where="--precision", hint=hint)
    if recipe.other_shapes and not spec.several_shapes:
        raise UsageError(f"target {spec.name!r} takes one set of shapes", where="--shape", hint="give each name once")
    if recipe.max_drop.promised and not known:
        raise UsageError("a contract needs samples to be judged by", where="--max-drop", hint="give --data")


def opened(
    model: Path,
    backend: Backend,
    recipe: Recipe,
    data: Data | None,
    dump: Path | None = None,
    *,
    widen: bool = True,
    original: ir.Model | None = None,
) -> Opened:
    """Opens model and data.

    Args:
        model: an ONNX file.
        backend: the target.
        recipe: what else is wished.
        data: calibration samples; None for none.
        dump: folder for the text of the graph after each pass that changed it.
        widen: compute in float32 what is stored in a shorter type; not wanted where no ranges of values are known.
        original: what the file holds, where it is loaded already.

    Raises:
        UsageError: the target must know the sizes of an input, and neither model, recipe nor data say them.
        ModelError, DataError, OutputError: as for `front` and `open_source`.
    """
    spec, found = backend.spec, dict[str, str]()
    original = read(model) if original is None else original
    if spec.shapes != "any":
        found = _agreed(stated_inputs(original, recipe.fixed_shapes), backend, recipe, data)
    shapes, rotate = {**recipe.fixed_shapes, **found}, recipe.chosen.rotate
    frontend = front(model, shapes, dump, spec.lacks, original, rotate=rotate, widen=widen)
    source = None if data is None else open_source(data, frontend.inputs, limit=recipe.samples)
    notes = [f"input {name!r} is fixed to {shape}, the shape of all samples" for name, shape in found.items()]
    if source is not None and source.implied:
        notes.append(f"inputs that the data leaves out: {listed(source.implied)}")
    return Opened(frontend, source, tuple(notes))


def at_other_shapes(model: Path, backend: Backend, recipe: Recipe, *, widen: bool = True) -> list[Frontend]:
    """The model prepared for the further sets of shapes; `widen` as for `opened`, errors as for `front`."""
    lacks, rotate = backend.spec.lacks, recipe.chosen.rotate
    return [front(model, shapes, lacks=lacks, rotate=rotate, widen=widen) for shapes in recipe.other_shapes]


def _agreed(inputs: Sequence[InputInfo], backend: Backend, recipe: Recipe, data: Data | None) -> dict[str, str]:
    """The shapes that samples give to the inputs that have open dimensions and no bounds."""
    missing = [info for info in inputs if is_open(info) and info.name not in recipe.shape_ranges]
    if not missing:
        return {}
    source = None if data is None else open_source(data, inputs, limit=recipe.samples)
    agreed = {} if source is None else agreed_sizes(source, inputs)
    for info in missing:
        if 0 in agreed.get(info.name, (0,)):
            raise _unknown(info, backend, source)
    return {info.name: _text(agreed[info.name]) for info in missing}


def _unknown(info: InputInfo, backend: Backend, source: Source | None) -> UsageError:
    spec, name = backend.spec, info.name
    shown = "unknown" if info.shape is None else _text(info.shape)
    label = next((size for size in info.shape or () if isinstance(size, str)), None)
    hint = f"--shape {label}=1" if label else f"--shape {name}=..."
    if source is not None and 0 not in (shape := next(iter(source)).feed[name].shape):
        first = _text(shape)
        hint = f"samples have several; --shape {name}={first} is that of the first"
    wanted = "fixed shapes only" if spec.shapes == "fixed" else "fixed or bounded shapes only"
    hint += ", or bounds min:default:max" if spec.shapes == "bounded" else ""
    return UsageError(f"target {spec.name!r} takes {wanted}; {name!r} is {shown}", where="--shape", hint=hint)


def _text(shape: Sequence[int | str | None]) -> str:
    """As `--shape` takes it."""
    return "x".join("?" if size is None else str(size) for size in shape)
