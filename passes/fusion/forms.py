"""What the recognisers of decomposed operators share: pieces of patterns, and the checks that most of them need.

Constants are compared within `RTOL`, half a unit in the last place of float16, which also covers constants that an
exporter wrote with five digits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any as Anything

import numpy as np
import numpy.typing as npt

from qcompiler import ir
from qcompiler.rewrite import NOTHING_TO_DO, Const, Match, Op
from qcompiler.rewrite.pattern import Pattern

RTOL = 5e-4
FLOATS = (np.dtype(np.float32), np.dtype(np.float16), np.dtype(np.float64))
SHORT_FLOATS = FLOATS[:2]

MEAN = "ReduceMean|GlobalAveragePool"  # prepare turns the one over height and width into the other


# ---- pieces of patterns
def const(value: float) -> Const:
    """A constant whose elements are all `value`, within RTOL."""
    return Const(value=value, rtol=RTOL)


def times(pattern: Pattern, factor: float) -> tuple[Op, Op]:
    """pattern * factor, written as a product or as a quotient."""
    return Op("Mul", pattern, const(factor)), Op("Div", pattern, const(1 / factor))


def products(a: Pattern, b: Pattern, factor: float) -> tuple[Op, ...]:
    """a * b * factor in every association: (a * b) * factor, (a * factor) * b, a * (b * factor)."""
    return (
        *times(Op("Mul", a, b), factor),
        *(Op("Mul", scaled, b) for scaled in times(a, factor)),
        *(Op("Mul", a, scaled) for scaled in times(b, factor)),
    )


def square(pattern: Pattern) -> tuple[Op, Op]:
    """pattern^2, written as a product or as a power."""
    return Op("Mul", pattern, pattern), Op("Pow", pattern, const(2.0))


def inverse_root(pattern: Pattern) -> tuple[Op, Op]:
    """1 / sqrt(pattern); Div(1, Sqrt) has become Reciprocal(Sqrt) in `simplify-powers`."""
    return Op("Reciprocal", Op("Sqrt", pattern)), Op("Pow", pattern, const(-0.5))


def negated(pattern: Pattern) -> tuple[Op, ...]:
    """-pattern: Neg, a product or quotient by -1, or a difference from 0."""
    return Op("Neg", pattern), *times(pattern, -1.0), Op("Sub", const(0.0), pattern)


# ---- questions
def scalar(tensor: ir.Tensor | None) -> float | None:
    """The value of a numeric constant with one element, None for anything else."""
    if not isinstance(tensor, ir.Constant) or math.prod(tensor.shape) != 1:
        return None
    if np.dtype(tensor.dtype).kind not in "fiu":
        return None
    return float(ir.array(tensor).reshape(()))


def reduced_axes(node: ir.Node) -> tuple[int, ...] | None:
    """The axes that a Reduce node reduces, counted from the end and ascending; None where they are not known.

    They are an attribute or a constant input, as the opset has it; absent means all. A GlobalAveragePool is the mean
    over all but the first two.
    """
    shape = node.inputs[0].shape
    rank = None if shape is None else len(shape)
    if node.op == "GlobalAveragePool":
        return None if rank is None else tuple(range(2 - rank, 0))
    axes = node.attrs.get("axes")
    if axes is None and len(node.inputs) > 1 and node.inputs[1].name:
        if not isinstance(node.inputs[1], ir.Constant):
            return None
        axes = ir.array(node.inputs[1]).reshape(-1).tolist()
    if not axes:
        if rank is None or node.attrs.get("noop_with_empty_axes", 0):
            return None
        axes = list(range(rank))
    if rank is None:
        return tuple(sorted(axes)) if all(axis < 0 for axis in axes) else None
    return tuple(sorted(axis % rank - rank for axis in axes))


def mean_axes(found: Match) -> tuple[int, ...] | str:
    """The axes that all means of the match go over, or why there are none such."""
    return same_axes([node for node, _ in found.inner if node.op in MEAN.split("|")])


def same_axes(nodes: Sequence[ir.Node]) -> tuple[int, ...] | str:
    """The axes that all these Reduce nodes share, or why there are none such; reduced dimensions must be kept."""
    first: tuple[int, ...] | None = None
    for node in nodes:
        axes = reduced_axes(node)
        if axes is None:
            return f"axes of {node.op} {node.name!r} are not known"
        if not node.attrs.get("keepdims", 1):
            return f"{node.op} {node.name!r} drops the dimensions that it reduces"
        if first is not None and axes != first:
            return f"{node.op} {node.name!r} reduces other axes than {nodes[0].op} {nodes[0].name!r}"
        first = axes
    return first if first is not None else "nothing is reduced"


def last_dims(tensor: ir.Tensor, axes: tuple[int, ...]) -> tuple[int, ...] | str:
    """The sizes of the dimensions `axes` of the tensor, which must be its last ones and static, or why not."""
    if axes != tuple(range(-len(axes), 0)):
        return f"axes {list(axes)} are not the last dimensions of {tensor.name!r}"
    dims = None if tensor.shape is None else tuple(tensor.shape[-len(axes) :])
    if dims is None or not all(isinstance(dim, int) for dim in dims):
        return f"the last {len(axes)} dimensions of {tensor.name!r} are not static"
    return dims


def spread(constant: ir.Tensor, dims: tuple[int, ...]) -> npt.NDArray[Anything] | None:
    """The values of a constant broadcast to the last dimensions `dims`; None where it does not fit them."""
    values = ir.array(constant)
    while values.ndim > len(dims) and values.shape[0] == 1:
        values = values[0]
    try:
        return np.ascontiguousarray(np.broadcast_to(values, dims))
    except ValueError:
        return None


# ---- checks
def refusal(
    edit: ir.Editor,
    found: Match,
    op: str,
    since: int,
    x: ir.Tensor,
    *,
    dtypes: Sequence[np.dtype[Anything]] = FLOATS,
    vectors: Sequence[str] = (),
) -> str | None:
    """Why the matched nodes cannot become one `op` of `x`: opset, type, or a constant that would broaden the result.

    Arithmetic on integers, as shapes are computed with, is passed over without a word.

    Args:
        edit: editor of the graph.
        found: the match.
        op: operator that would be written.
        since: opset in which it came.
        x: its input.
        dtypes: types that runtimes have it for.
        vectors: names of bound constants that may have more than one element.
    """
    if x.dtype is not None and np.dtype(x.dtype).kind in "iub":
        return NOTHING_TO_DO
    if edit.model.opset < since:
        return f"opset {edit.model.opset} has no {op}, which came with opset {since}"
    if x.dtype is None:
        return f"the type of {x.name!r} is not known"
    if np.dtype(x.dtype) not in dtypes:
        return f"{x.name!r} is {np.dtype(x.dtype)}, for which {op} is not written"
    rank = 0 if x.shape is None else len(x.shape)
    free = [found.bound[name] for name in vectors if name in found.bound]
    for node in [found.root, *(node for node, _ in found.inner)]:
        for tensor in node.inputs if node.op != "Clip" else ():
            if not isinstance(tensor, ir.Constant) or (np.dtype(tensor.dtype).kind in "iu" and node.op != "Pow"):
                continue
            wide = math.prod(tensor.shape) != 1 and not any(tensor is vector for vector in free)
            if wide or len(tensor.shape) > rank:
                return f"constant {tensor.name!r} of shape {list(tensor.shape)} may broaden {x.name!r}"
    return None


# ---- change
def replace(
    edit: ir.Editor,
    found: Match,
    op: str,
    inputs: Sequence[ir.Tensor | None],
    attrs: Mapping[str, Anything] | None = None,
) -> ir.Node:
    """Lets one new node compute what the match computed; the driver then erases the match."""
    node = edit.add(op, inputs, name=f"{found.root.name}_{op}", attrs=attrs, like=found.output)
    edit.replace_uses(found.output, node.outputs[0])
    return node


def reduce(
    edit: ir.Editor, found: Match, op: str, x: ir.Tensor, axes: Sequence[int], *, keepdims: int, axes_since: int
) -> ir.Node:
    """`replace` by a Reduce operator whose axes are an input since opset `axes_since`, an attribute before."""
    if edit.model.opset < axes_since:
        return replace(edit, found, op, [x], {"axes": list(axes), "keepdims": keepdims})
    given = edit.constant(f"{found.root.name}_axes", np.array(axes, np.int64))
    return replace(edit, found, op, [x, given], {"keepdims": keepdims})
