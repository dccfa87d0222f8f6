"""Opens what a compile starts from: the model, prepared for the target, and its calibration samples.

A target that must know the sizes of the inputs beforehand gets those that the user states. Where nobody states any and
all samples have the same, it gets those.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from qcompiler.backends.base import Backend
from qcompiler.data import Data, Source, open_source
from qcompiler.data.sizes import agreed_sizes, is_open
from qcompiler.errors import UsageError
from qcompiler.frontend import Frontend, front
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


def opened(model: Path, backend: Backend, recipe: Recipe, data: Data | None, dump: Path | None = None) -> Opened:
    """Opens model and data.

    Args:
        model: an ONNX file.
        backend: the target.
        recipe: what else is wished.
        data: calibration samples; None for none.
        dump: folder for the text of the graph after each pass that changed it.

    Raises:
        UsageError: the target must know the sizes of an input, and neither model, recipe nor data say them.
        ModelError, DataError, OutputError: as for `front` and `open_source`.
    """
    spec = backend.spec
    frontend = front(model, recipe.fixed_shapes, dump, spec.lacks)
    source = None if data is None else open_source(data, frontend.inputs, limit=recipe.samples)
    if spec.shapes == "any" or not (missing := _missing(frontend, recipe)):
        return Opened(frontend, source)
    agreed = {} if source is None else agreed_sizes(source, frontend.inputs)
    found = {name: _text(agreed[name]) for name in missing if name in agreed}
    if len(found) < len(missing):
        raise _unknown(frontend, backend, source, next(name for name in missing if name not in found))
    frontend = front(model, {**recipe.fixed_shapes, **found}, dump, spec.lacks)
    source = None if data is None else open_source(data, frontend.inputs, limit=recipe.samples)
    notes = (f"input {name!r} is fixed to {shape}, the shape of all samples" for name, shape in found.items())
    return Opened(frontend, source, tuple(notes))


def _missing(frontend: Frontend, recipe: Recipe) -> Sequence[str]:
    """The inputs that have open dimensions and no bounds."""
    return [info.name for info in frontend.inputs if is_open(info) and info.name not in recipe.shape_ranges]


def _unknown(frontend: Frontend, backend: Backend, source: Source | None, name: str) -> UsageError:
    spec, info = backend.spec, next(info for info in frontend.inputs if info.name == name)
    shown = "unknown" if info.shape is None else _text(info.shape)
    label = next((size for size in info.shape or () if isinstance(size, str)), None)
    hint = f"--shape {label}=1" if label else f"--shape {name}=..."
    if source is not None:
        first = _text(next(iter(source)).feed[name].shape)
        hint = f"samples have several; --shape {name}={first} is that of the first"
    wanted = "fixed shapes only" if spec.shapes == "fixed" else "fixed or bounded shapes only"
    hint += " or bounds min:default:max" if spec.shapes == "bounded" else ""
    return UsageError(f"target {spec.name!r} takes {wanted}; {name!r} is {shown}", where="--shape", hint=hint)


def _text(shape: Sequence[int | str | None]) -> str:
    """As `--shape` takes it."""
    return "x".join("?" if size is None else str(size) for size in shape)
