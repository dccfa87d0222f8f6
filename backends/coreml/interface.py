"""What a package takes and gives: images, labels, shapes, metadata, under the names of the ONNX model.

--image NAME[:LAYOUT[:SCALE[:BIAS,...]]]    pixels 0..255 times SCALE plus BIAS; RGB, BGR or GRAY
--labels FILE                               one class a line: gives the label and a dictionary of scores
--shape NAME=min:opt:max                    each dimension within bounds
--enumerate NAME=SHAPE,SHAPE,...            a few fixed shapes, the first the default: what the Neural Engine likes
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qcompiler import ir
from qcompiler.backends.coreml.states import State, states
from qcompiler.backends.coreml.tools import coremltools
from qcompiler.errors import UsageError

LAYOUTS = {"RGB": 3, "BGR": 3, "GRAY": 1}


@dataclass(frozen=True)
class Image:
    """An input that is fed with pixels."""

    layout: str = "RGB"
    scale: float = 1.0
    bias: tuple[float, ...] = ()

    @staticmethod
    def parse(text: str) -> tuple[str, Image]:
        """`input:RGB:0.0039:-0.5,-0.5,-0.5` as name and image.

        Raises:
            UsageError: another form.
        """
        name, *rest = text.split(":")
        form = "write NAME:RGB:SCALE:BIAS, with one bias or one for each channel separated by commas"
        layout = (rest[0] if rest else "RGB").upper()
        if not name or layout not in LAYOUTS or len(rest) > 3:
            raise UsageError(f"{text!r} is not an image", where="--image", hint=form)
        try:
            scale = float(rest[1]) if len(rest) > 1 and rest[1] else 1.0
            bias = tuple(float(b) for b in rest[2].split(",")) if len(rest) > 2 and rest[2] else ()
        except ValueError as error:
            raise UsageError(f"{text!r} is not an image: {error}", where="--image", hint=form) from error
        if len(bias) not in (0, 1, LAYOUTS[layout]):
            raise UsageError(f"{len(bias)} biases for {layout}", where="--image", hint=form)
        return name, Image(layout, scale, bias * (LAYOUTS[layout] if len(bias) == 1 else 1))


@dataclass(frozen=True)
class Interface:
    """See the module.

    Attributes:
        images: by name of the input.
        labels: of the classes.
        ranges: (smallest, default, largest) shape, by name of the input.
        choices: the enumerated shapes, by name of the input.
        states: inputs and outputs that are caches.
    """

    images: Mapping[str, Image]
    labels: tuple[str, ...]
    ranges: Mapping[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]
    choices: Mapping[str, tuple[tuple[int, ...], ...]]
    states: tuple[State, ...] = ()

    @property
    def caches(self) -> dict[str, State]:
        """The states by the input that they take the place of."""
        return {state.past: state for state in self.states}


def interface(
    model: ir.Model,
    images: Sequence[str] = (),
    labels: str = "",
    ranges: Mapping[str, str] | None = None,
    choices: Sequence[str] = (),
    caches: Sequence[str] = (),
) -> Interface:
    """The wishes, checked against the model.

    Raises:
        UsageError: a name that no input has, a shape that does not fit, a file that cannot be read.
    """
    ranks = {tensor.name: len(tensor.shape or ()) for tensor in model.inputs}
    pictures = dict(map(Image.parse, images))
    bounds = {name: three(name, value) for name, value in (ranges or {}).items()}
    several = dict(map(enumerated, choices))
    for option, names in (("--image", pictures), ("--shape", bounds), ("--enumerate", several)):
        for name in names:
            if name not in ranks:
                known = ", ".join(ranks)
                raise UsageError(f"{name!r} is no input of the model", where=option, hint=f"inputs: {known}")
    for name in pictures:
        shape = next(t.shape for t in model.inputs if t.name == name)
        channels = LAYOUTS[pictures[name].layout]
        if len(shape or ()) != 4 or shape[1] != channels:
            said = f"an image of {pictures[name].layout} is N x {channels} x H x W; {name!r} is {shape}"
            raise UsageError(said, where="--image")
    for option, shapes in (("--shape", bounds), ("--enumerate", several)):
        for name, given in shapes.items():
            if any(len(shape) != ranks[name] for shape in given):
                raise UsageError(f"{name!r} has {ranks[name]} dimensions", where=option)
    return Interface(pictures, read_labels(labels), bounds, several, states(model, caches))


def three(name: str, text: str) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """`1x1:1x16:1x128` as three shapes.

    Raises:
        UsageError: another form, or bounds out of order.
    """
    parts = [shape(part, f"--shape {name}") for part in text.split(":")]
    if len(parts) == 2:
        parts = [parts[0], parts[0], parts[1]]
    if len(parts) != 3 or not all(a <= b <= c for a, b, c in zip(*parts, strict=False)):
        raise UsageError(f"{text!r} are no bounds", where=f"--shape {name}", hint="write min:default:max")
    return parts[0], parts[1], parts[2]


def enumerated(text: str) -> tuple[str, tuple[tuple[int, ...], ...]]:
    """`input=1x3x224x224,1x3x320x320` as name and shapes.

    Raises:
        UsageError: another form.
    """
    name, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"{text!r} is not NAME=SHAPE,SHAPE", where="--enumerate")
    return name, tuple(shape(part, "--enumerate") for part in value.split(","))


def shape(text: str, where: str) -> tuple[int, ...]:
    """`1x3x8` as numbers.

    Raises:
        UsageError: another form.
    """
    parts = text.strip().lower().split("x")
    if not all(part.isascii() and part.isdigit() and int(part) for part in parts):
        raise UsageError(f"{text!r} is not a shape", where=where, hint="for instance 1x3x224x224")
    return tuple(map(int, parts))


def read_labels(file: str) -> tuple[str, ...]:
    """The classes, one a line.

    Raises:
        UsageError: the file cannot be read, or names a class twice.
    """
    if not file:
        return ()
    try:
        lines = Path(file).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot be read: {error}", where=f"--labels {file}") from error
    found = tuple(line.strip() for line in lines if line.strip())
    if len(set(found)) != len(found) or not found:
        raise UsageError("is empty, or names a class twice", where=f"--labels {file}")
    return found


def symbolic(model: ir.Model, wishes: Interface) -> dict[str, list[Any]]:
    """The shape of each input for MIL: numbers, and one symbol for each open dimension; equal names share one.

    Raises:
        UsageError: an open dimension without bounds.
    """
    ct = coremltools()
    from coremltools.converters.mil.mil import get_new_symbol

    del ct
    symbols: dict[str, Any] = {}
    found: dict[str, list[Any]] = {}
    for tensor in model.inputs:
        if tensor.name in wishes.caches:
            continue
        bounds, several = wishes.ranges.get(tensor.name), wishes.choices.get(tensor.name)
        dims: list[Any] = []
        for axis, dim in enumerate(tensor.shape or []):
            sizes = {s[axis] for s in several} if several else {bounds[0][axis], bounds[2][axis]} if bounds else None
            if isinstance(dim, int):
                if sizes not in (None, {dim}):
                    raise UsageError(f"dimension {axis} of {tensor.name!r} is {dim} in the model", where="--shape")
                dims.append(dim)
            elif sizes is None:
                hint = f"--shape {dim or tensor.name + '=...'}{'=1' if dim else ''}, or bounds min:default:max"
                said = f"input {tensor.name!r} has the open dimension {dim or axis}; a package needs bounds"
                raise UsageError(said, where="--shape", hint=hint)
            elif len(sizes) == 1:
                dims.append(next(iter(sizes)))
            else:
                key = str(dim) if dim else f"{tensor.name}.{axis}"
                dims.append(symbols.setdefault(key, get_new_symbol()))
        found[tensor.name] = dims
    return found


def types(model: ir.Model, wishes: Interface, dims: Mapping[str, Sequence[Any]], clean: Mapping[str, str]) -> list[Any]:
    """The inputs as coremltools takes them; images, bounds and enumerations are said here."""
    ct = coremltools()
    found = []
    for tensor in model.inputs:
        if tensor.name in wishes.caches:
            continue
        name, image = tensor.name, wishes.images.get(tensor.name)
        whole: Any = tuple(dims[name])
        if name in wishes.choices:
            several = wishes.choices[name]
            whole = ct.EnumeratedShapes(shapes=[list(s) for s in several], default=list(several[0]))
        elif name in wishes.ranges:
            low, default, high = wishes.ranges[name]
            whole = ct.Shape(
                shape=tuple(
                    ct.RangeDim(a, c, default=b) if a != c else a for a, b, c in zip(low, default, high, strict=True)
                )
            )
        if image is not None:
            layout = {"RGB": ct.colorlayout.RGB, "BGR": ct.colorlayout.BGR, "GRAY": ct.colorlayout.GRAYSCALE}
            bias: Any = list(image.bias) if len(image.bias) > 1 else (image.bias[0] if image.bias else 0.0)
            found.append(
                ct.ImageType(
                    name=clean[name],
                    shape=whole,
                    scale=image.scale,
                    bias=bias or None,
                    color_layout=layout[image.layout],
                )
            )
        else:
            found.append(ct.TensorType(name=clean[name], shape=whole))
    return found
