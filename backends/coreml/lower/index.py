"""Gather, scatter, search. Indices are int32; negative ones, undefined from iOS 17 on, are made positive.

Constant indices are made positive when the model is built, computed ones by select(i < 0, i + n, i).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from qcompiler.backends.coreml.lower.scope import Refused, Scope, Var, type_of, value_of
from qcompiler.backends.coreml.lower.table import lowers


def positive(s: Scope, port: int, size: Any) -> Var:
    """Indices into a dimension of `size`, none below zero."""
    known = s.known(port)
    if known is not None and isinstance(size, int | np.integer):
        found = np.where(known < 0, known + int(size), known).astype(np.int32)
        if found.size and (found.min() < 0 or found.max() >= int(size)):
            raise Refused("an index beyond the input")
        return s.constant(found)
    if known is not None and (known >= 0).all():
        return s.constant(known.astype(np.int32))
    indices = s.x(port)
    if not isinstance(size, int | np.integer):
        axis = s.axis(s.attr("axis", 0))
        dims = s.op("shape", x=s.x(0))
        size = s.op("squeeze", x=s.op("slice_by_index", x=dims, begin=[axis], end=[axis + 1]), axes=[0])
    else:
        size = np.int32(size)
    below = s.op("less", x=indices, y=np.int32(0))
    return s.op("select", cond=below, a=s.op("add", x=indices, y=size), b=indices)


def numbers(s: Scope, x: Var) -> Var:
    """A value that gather and scatter take: bool as int32."""
    return s.cast(x, "int32") if type_of(x) == "bool" else x


@lowers("Gather", to="gather")
def gather(s: Scope) -> Var:
    """Along one axis; an index of rank 0 drops it."""
    x, axis = s.x(), s.axis(s.attr("axis", 0))
    size = x.shape[axis]
    known = s.known(1)
    if known is not None and known.size == 0:
        raise Refused("an empty result")
    rank = s.rank() - 1 + (known.ndim if known is not None else int(s.x(1).rank))
    if rank > 5:
        raise Refused(f"rank {rank}; Core ML has values of rank 5 at most")
    found = s.op("gather", x=numbers(s, x), indices=positive(s, 1, size), axis=axis, **unchecked(s, batch=True))
    return s.cast(found, type_of(x))


def unchecked(s: Scope, batch: bool = False) -> dict[str, Any]:
    """Options of the operators' versions."""
    found: dict[str, Any] = {"validate_indices": False} if s.os >= 17 else {}
    return {"batch_dims": 0, **found} if batch else found


@lowers("GatherElements", to="gather_along_axis")
def gather_elements(s: Scope) -> Var:
    """One index for each value."""
    x, axis = s.x(), s.axis(s.attr("axis", 0))
    indices = positive(s, 1, x.shape[axis])
    have, want = s.shape(), [int(d) for d in indices.shape]
    cut = [n if i == axis else min(n, w) for i, (n, w) in enumerate(zip(have, want, strict=True))]
    y = numbers(s, x)
    if cut != have:
        y = s.op("slice_by_index", x=y, begin=[0] * len(cut), end=cut)
    return s.cast(s.op("gather_along_axis", x=y, indices=indices, axis=axis, **unchecked(s)), type_of(x))


@lowers("GatherND", to="gather_nd", limits="computed indices below zero")
def gather_nd(s: Scope) -> Var:
    """Indices of several axes at once."""
    x, batch = s.x(), int(s.attr("batch_dims", 0))
    indices = tuples(s, 1, [x.shape[batch + i] for i in range(int(s.x(1).shape[-1]))])
    found = s.op("gather_nd", x=numbers(s, x), indices=indices, batch_dims=batch, **unchecked(s))
    return s.cast(found, type_of(x))


def tuples(s: Scope, port: int, sizes: list[Any]) -> Var:
    """Indices of several axes, none below zero."""
    known = s.known(port)
    if not all(isinstance(n, int | np.integer) for n in sizes):
        if known is None or (known < 0).any():
            raise Refused("indices that may be negative, into an open shape")
        return s.constant(known.astype(np.int32))
    wide = np.array([int(n) for n in sizes], np.int32)
    if known is not None:
        return s.constant(np.where(known < 0, known + wide, known).astype(np.int32))
    indices = s.x(port)
    below = s.op("less", x=indices, y=np.int32(0))
    return s.op("select", cond=below, a=s.op("add", x=indices, y=wide), b=indices)


MODES = {"none": "update", "add": "add", "mul": "mul", "max": "max", "min": "min"}


@lowers("ScatterElements", to="scatter_along_axis", limits="duplicate indices where order matters")
def scatter_elements(s: Scope) -> Var:
    """The mode is `update` unless ONNX says otherwise; MIL's default adds."""
    x, axis = s.x(), s.axis(s.attr("axis", 0))
    indices, updates = positive(s, 1, x.shape[axis]), s.x(2)
    have, want = s.shape(), [int(d) for d in indices.shape]
    if any(n != w for i, (n, w) in enumerate(zip(have, want, strict=True)) if i != axis):
        return scatter_anywhere(s, x, indices, updates, axis, want)
    found = s.op(
        "scatter_along_axis", data=numbers(s, x), indices=indices, updates=numbers(s, updates), axis=axis,
        mode=MODES[s.attr("reduction", "none")], **unchecked(s),
    )  # fmt: skip
    return s.cast(found, type_of(x))


def scatter_anywhere(s: Scope, x: Var, indices: Var, updates: Var, axis: int, shape: list[int]) -> Var:
    """Updates of a part of the other axes: with the whole index of each."""
    grid = np.indices(shape).reshape(len(shape), -1).T.astype(np.int32)
    known = value_of(indices)
    flat = s.reshape(updates, [-1])
    if known is not None:
        grid[:, axis] = known.reshape(-1)
        places = s.constant(grid)
    else:
        columns = [
            s.reshape(indices, [-1, 1]) if i == axis else s.constant(grid[:, i : i + 1].copy())
            for i in range(len(shape))
        ]
        places = s.op("concat", values=columns, axis=1)
    found = s.op(
        "scatter_nd", data=numbers(s, x), indices=places, updates=numbers(s, flat),
        mode=MODES[s.attr("reduction", "none")], **unchecked(s),
    )  # fmt: skip
    return s.cast(found, type_of(x))


@lowers("ScatterND", to="scatter_nd", limits="computed indices into an open shape")
def scatter_nd(s: Scope) -> Var:
    """Indices of several axes at once."""
    x = s.x()
    indices = tuples(s, 1, [x.shape[i] for i in range(int(s.x(1).shape[-1]))])
    found = s.op(
        "scatter_nd", data=numbers(s, x), indices=indices, updates=numbers(s, s.x(2)),
        mode=MODES[s.attr("reduction", "none")], **unchecked(s),
    )  # fmt: skip
    return s.cast(found, type_of(x))


@lowers("TopK", to="topk", limits="a computed k, unsigned integers")
def topk(s: Scope) -> Any:
    """Values and indices, sorted."""
    x, k, axis = s.x(), int(s.need(1, "k").reshape(-1)[0]), s.axis(s.attr("axis", -1))
    if k < 1:
        raise Refused("an empty result")
    given = {"sort": True, "return_indices": True}
    return list(s.op("topk", x=x, k=k, axis=axis, ascending=not s.attr("largest", 1), **given))


@lowers("CumSum", to="cumsum", limits="a computed axis")
def cumsum(s: Scope) -> Var:
    """Exclusive and reversed, if so wished."""
    axis = s.axis(int(s.need(1, "the axis").reshape(())))
    options = {"exclusive": bool(s.attr("exclusive", 0)), "reverse": bool(s.attr("reverse", 0))}
    return s.op("cumsum", x=s.x(), axis=axis, **options)


@lowers("OneHot", to="one_hot", limits="a computed depth or computed values")
def one_hot(s: Scope) -> Var:
    """Negative indices count from the end; those beyond the depth give none."""
    depth = int(s.need(1, "the depth").reshape(-1)[0])
    off, on = s.need(2, "the values").reshape(-1)
    indices = s.cast(s.x(0), "int32")
    below = s.op("less", x=indices, y=np.int32(0))
    indices = s.op("select", cond=below, a=s.op("add", x=indices, y=np.int32(depth)), b=indices)
    axis = int(s.attr("axis", -1))
    axis = axis if axis >= 0 else axis + int(indices.rank) + 1
    steps = np.arange(depth, dtype=np.int32).reshape([-1 if i == axis else 1 for i in range(int(indices.rank) + 1)])
    hit = s.op("equal", x=s.op("expand_dims", x=indices, axes=[axis]), y=s.constant(steps))
    if on.dtype == np.bool_:
        return hit if on else s.op("logical_not", x=hit)
    kind = {"f": "fp32", "i": "int32"}[on.dtype.kind]
    scaled = s.op("mul", x=s.cast(hit, kind), y=np.asarray(on - off, on.dtype)[()])
    return s.op("add", x=scaled, y=off)


@lowers("NonZero", to="non_zero, transpose")
def non_zero(s: Scope) -> Var:
    """Indices as columns; how many is known at run time alone."""
    x = s.x()
    return s.op("transpose", x=s.op("non_zero", x=numbers(s, x)), perm=[1, 0])


@lowers("ReverseSequence", to="reverse_sequence")
def reverse_sequence(s: Scope) -> Var:
    """The first lengths[b] entries of each batch."""
    time, batch = int(s.attr("time_axis", 0)), int(s.attr("batch_axis", 1))
    return s.op("reverse_sequence", x=s.x(0), lengths=s.x(1), seq_axis=time, batch_axis=batch)
