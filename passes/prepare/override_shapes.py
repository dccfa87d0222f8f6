"""Dynamic dimensions become numbers: batch=1 for a named dimension, input=1x3x224x224 for an input.

A named dimension that an input fixes is fixed wherever it occurs. Shapes inside the graph that had open dimensions are
inferred anew. Source: the ONNX IR standard, Tensor Shapes: a name stands for one number in the whole model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from qcompiler import ir
from qcompiler.errors import UsageError
from qcompiler.passes.prepare.infer_shapes import Shape, computed, refine
from qcompiler.pipeline import GraphPass, PassRecord

OPTION = "--shape"


def parse_shape(text: str) -> tuple[str, tuple[int, ...]]:
    """`batch=1` or `input=1x3x224x224` as (name, dimensions); a dimension 0 written `?` is left alone.

    Raises:
        UsageError: the text has another form.
    """
    name, _, value = text.rpartition("=")
    parts = value.lower().split("x")
    if not name or not all(part == "?" or (part.isascii() and part.isdigit() and int(part)) for part in parts):
        hint = "write DIMENSION=NUMBER, or INPUT=NUMBERxNUMBERx... with ? for a dimension to leave"
        raise UsageError(f"{text!r} is not a shape", where=OPTION, hint=hint)
    return name, tuple(0 if part == "?" else int(part) for part in parts)


@dataclass(frozen=True)
class OverrideShapes(GraphPass):
    """Fixes dynamic dimensions of the inputs.

    Attributes:
        shapes: (name of an input or of a dimension, dimensions), see `parse_shape`; 0 leaves a dimension as it is.
    """

    name: ClassVar[str] = "override-shapes"
    shapes: tuple[tuple[str, tuple[int, ...]], ...] = ()

    def apply(self, model: ir.Model, record: PassRecord) -> None:
        """Counts the inputs that changed.

        Raises:
            UsageError: a name that neither an input nor a dimension has, a wrong number of dimensions, or a number that
                contradicts the model or another override.
        """
        if not self.shapes:
            return
        numbers: dict[str, int] = {}
        wanted: dict[str, Shape] = {tensor.name: list(tensor.shape or ()) for tensor in model.inputs}
        for name, values in self.shapes:
            if name in wanted:
                wanted[name] = self._fix_input(model, name, values, wanted[name], numbers)
            elif any(name in shape for shape in wanted.values()) and len(values) == 1:
                _bind(numbers, name, values[0], name)
            else:
                what = f"{name!r} is neither an input nor a dynamic dimension"
                raise UsageError(what, where=OPTION, hint=_choices(model))
        edit = next(ir.editors(model))
        for tensor in model.inputs:
            shape = _put_in(wanted[tensor.name], numbers)
            if shape != (tensor.shape or []):
                edit.retype(tensor, tensor.dtype, shape)
                record.changes += 1
        for graph in list(model.graphs())[1:]:
            for tensor in graph.inputs:
                edit.retype(tensor, tensor.dtype, _put_in(tensor.shape, numbers))
        _infer_again(model, numbers, record)

    def _fix_input(
        self, model: ir.Model, name: str, values: tuple[int, ...], shape: Shape, numbers: dict[str, int]
    ) -> Shape:
        tensor = next(tensor for tensor in model.inputs if tensor.name == name)
        if tensor.shape is None:
            shape = [None] * len(values)
        if len(values) != len(shape):
            have = "x".join(map(str, shape)) or "no dimensions"
            raise UsageError(f"{len(values)} dimensions given for an input with {len(shape)} ({have})", where=name)
        fixed: Shape = []
        for axis, (old, new) in enumerate(zip(shape, values, strict=True)):
            if new and isinstance(old, int) and old != new:
                raise UsageError(f"dimension {axis} is {old} in the model and cannot become {new}", where=name)
            if new and isinstance(old, str):
                _bind(numbers, old, new, name)
            fixed.append(new or old)
        return fixed


def _bind(numbers: dict[str, int], dimension: str, value: int, where: str) -> None:
    if value < 1:
        raise UsageError(f"dimension {dimension!r} cannot become {value}", where=where)
    if numbers.setdefault(dimension, value) != value:
        raise UsageError(f"dimension {dimension!r} is given as {numbers[dimension]} and as {value}", where=where)


def _choices(model: ir.Model) -> str:
    dynamic = dict.fromkeys(d for tensor in model.inputs for d in tensor.shape or () if isinstance(d, str))
    inputs = ", ".join(tensor.name for tensor in model.inputs) or "none"
    return f"inputs: {inputs}; dynamic dimensions: {', '.join(dynamic) or 'none'}"


def _put_in(shape: Shape | None, numbers: dict[str, int]) -> Shape | None:
    """The shape with numbers for the dimensions that have one."""
    return None if shape is None else [numbers.get(d, d) if isinstance(d, str) else d for d in shape]


def _infer_again(model: ir.Model, numbers: dict[str, int], record: PassRecord) -> None:
    """Infers every shape that had an open dimension; where inference is silent the old one returns, numbers put in."""
    edit = next(ir.editors(model))
    old: list[tuple[ir.Variable, Shape]] = []
    for tensor in computed(model):
        if tensor.shape is not None and not all(isinstance(d, int) for d in tensor.shape):
            old.append((tensor, _put_in(tensor.shape, numbers) or []))
            edit.retype(tensor, tensor.dtype, None)
    inner = PassRecord(record.name)
    refine(model, inner)
    for tensor, shape in old:
        if tensor.shape is None or len(tensor.shape) != len(shape):
            edit.retype(tensor, tensor.dtype, tensor.shape or shape)
        else:
            edit.retype(tensor, tensor.dtype, [s if n is None else n for s, n in zip(shape, tensor.shape, strict=True)])
    refine(model, inner)
    record.notes += inner.notes
