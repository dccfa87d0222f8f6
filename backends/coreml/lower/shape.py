"""Operators that move values: shapes, concatenation, blocks of pixels.

Values known when the model is built (shapes, axes) are folded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from qcompiler.backends.coreml.lower.elementwise import tiled
from qcompiler.backends.coreml.lower.scope import Refused, Scope, Var, converted, static, type_of
from qcompiler.backends.coreml.lower.state import appended, lengths
from qcompiler.backends.coreml.lower.table import lowers

BIG = 2**31 - 1


def kept(s: Scope, kind: str, x: Var, **inputs: Any) -> Var:
    """An operation that takes no bool, on int32 in its place."""
    if type_of(x) != "bool":
        return s.op(kind, x=x, **inputs)
    return s.cast(s.op(kind, x=s.cast(x, "int32"), **inputs), "bool")


def open_dims(x: Var) -> int:
    """How many dimensions are not known."""
    return sum(not isinstance(d, int | np.integer) for d in x.shape)


@lowers("Reshape", to="reshape")
def reshape(s: Scope) -> Var:
    """0 copies a dimension, -1 is what is left; a computed shape is taken as it is."""
    x, wanted = s.x(), s.known(1)
    if wanted is None:
        return s.op("reshape", x=x, shape=s.x(1))
    shape = [int(v) for v in wanted.reshape(-1)]
    if not s.attr("allowzero", 0):
        copied = [x.shape[i] if n == 0 else n for i, n in enumerate(shape)]
        unknown = [i for i, n in enumerate(copied) if not isinstance(n, int | np.integer)]
        if len(unknown) == 1 and -1 not in shape:
            copied[unknown[0]] = -1
        elif unknown:
            return computed_reshape(s, x, shape)
        shape = [int(n) for n in copied]
    elif 0 in shape:
        raise Refused("an empty result")
    if len(shape) > 5:
        raise Refused(f"rank {len(shape)}; Core ML has values of rank 5 at most")
    return kept(s, "reshape", x, shape=np.array(shape, np.int32)) if shape else squeezed(s, x)


def squeezed(s: Scope, x: Var) -> Var:
    """One value without dimensions."""
    return kept(s, "squeeze", x, axes=list(range(int(x.rank)))) if int(x.rank) else x


def computed_reshape(s: Scope, x: Var, shape: Sequence[int]) -> Var:
    """A shape of which several dimensions are copied from an open input."""
    dims = s.op("shape", x=x)
    parts = [
        s.op("slice_by_index", x=dims, begin=[i], end=[i + 1]) if n == 0 else s.constant(np.array([n], np.int32))
        for i, n in enumerate(shape)
    ]
    return s.op("reshape", x=x, shape=s.op("concat", values=parts, axis=0))


@lowers("Flatten", to="reshape")
def flatten(s: Scope) -> Var:
    """Two dimensions, split at `axis`."""
    x, axis = s.x(), s.attr("axis", 1)
    axis = axis + s.rank() if axis < 0 else axis
    front = list(x.shape[:axis])
    if all(isinstance(d, int | np.integer) for d in front):
        return kept(s, "reshape", x, shape=np.array([int(np.prod(front, dtype=np.int64)), -1], np.int32))
    back = x.shape[axis:]
    if not all(isinstance(d, int | np.integer) for d in back):
        raise Refused("open dimensions on both sides of the axis")
    return kept(s, "reshape", x, shape=np.array([-1, int(np.prod(back, dtype=np.int64))], np.int32))


def axes_at(s: Scope, port: int, rank: int) -> list[int] | None:
    """Axes from an attribute or a constant input."""
    axes = s.ints("axes")
    if axes is None and s.has(port):
        axes = [int(v) for v in s.need(port, "axes").reshape(-1)]
    return None if axes is None else [a % rank for a in axes]


@lowers("Squeeze", to="squeeze")
def squeeze(s: Scope) -> Var:
    """Given dimensions of 1, or all."""
    x = s.x()
    axes = axes_at(s, 1, max(s.rank(), 1))
    if axes is None:
        axes = [i for i, d in enumerate(x.shape) if d == 1]
    return kept(s, "squeeze", x, axes=sorted(axes)) if axes else s.op("identity", x=x)


@lowers("Unsqueeze", to="expand_dims")
def unsqueeze(s: Scope) -> Var:
    """New dimensions of 1."""
    x, count = s.x(), len(s.ints("axes") or s.need(1, "axes").reshape(-1))
    axes = sorted(axes_at(s, 1, s.rank() + count) or [])
    if s.rank() + count > 5:
        raise Refused(f"rank {s.rank() + count}; Core ML has values of rank 5 at most")
    return kept(s, "expand_dims", x, axes=axes) if axes else s.op("identity", x=x)


@lowers("Transpose", to="transpose")
def transpose(s: Scope) -> Var:
    """Axes in another order."""
    perm = s.ints("perm", list(range(s.rank()))[::-1]) or []
    return s.op("transpose", x=s.x(), perm=perm) if perm else s.op("identity", x=s.x())


@lowers("Concat", to="concat")
def concat(s: Scope) -> Var:
    """Along one axis; behind a cache that grows, into its state."""
    cache = s.program.caches.get(s.node.inputs[0].name)
    if cache is not None and cache.length is not None:
        return appended(s, cache)
    values = s.alike(*s.xs())
    return s.op("concat", values=values, axis=s.axis(s.attr("axis")), interleave=False)


@lowers("Split", to="split", limits="computed sizes")
def split(s: Scope) -> Any:
    """By sizes, or in equal parts of which the last may be smaller."""
    x, axis, count = s.x(), s.axis(s.attr("axis", 0)), len(s.node.outputs)
    sizes = s.ints("split")
    if sizes is None and s.has(1):
        sizes = [int(v) for v in s.need(1, "split").reshape(-1)]
    if sizes is None:
        size = s.shape()[axis]
        part = -(-size // count)
        sizes = [min(part, size - i * part) for i in range(count)]
    if any(size <= 0 for size in sizes):
        raise Refused("an empty part")
    if len(sizes) == 1:
        return [s.op("identity", x=x)]
    kind = type_of(x)
    found = s.op("split", x=s.cast(x, "int32") if kind == "bool" else x, split_sizes=sizes, axis=axis)
    return [s.cast(part, kind) for part in found]


@lowers("Tile", to="tile")
def tile(s: Scope) -> Var:
    """Repeats along each axis."""
    reps = s.known(1)
    if reps is None:
        return s.op("tile", x=s.x(), reps=s.x(1))
    return tiled(s, s.x(), [int(n) for n in reps.reshape(-1)]) if (reps != 1).any() else s.op("identity", x=s.x())


@lowers("Expand", to="tile, mul", limits="a bool value to a computed shape")
def expand(s: Scope) -> Var:
    """Broadcasting; to a computed shape by a product with ones."""
    x, wanted = s.x(), s.known(1)
    if wanted is None or open_dims(x):
        if type_of(x) == "bool":
            raise Refused("a bool value to a computed shape")
        ones = s.op("fill", shape=s.x(1), value=s.scalar(1, x))
        return s.op("mul", x=x, y=ones)
    shape = np.broadcast_shapes(tuple(static(x, "x")), tuple(int(n) for n in wanted.reshape(-1)))
    if 0 in shape:
        raise Refused("an empty result")
    have = [1] * (len(shape) - s.rank()) + static(x, "x")
    if len(shape) > 5:
        raise Refused(f"rank {len(shape)}; Core ML has values of rank 5 at most")
    if len(shape) > s.rank():
        x = kept(s, "reshape", x, shape=np.array(have, np.int32))
    found = tiled(s, x, [n // h for n, h in zip(shape, have, strict=True)])
    return s.op("identity", x=found) if found is x else found


@lowers("Shape", to="shape, slice_by_index")
def shape(s: Scope) -> Var:
    """Constant where the shape is fixed."""
    cache = s.program.caches.get(s.node.inputs[0].name)
    if cache is not None and cache.length is not None:
        return lengths(s, cache)
    x, rank = s.x(), s.rank()
    start, end = (min(max(v + rank if v < 0 else v, 0), rank) for v in (s.attr("start", 0), s.attr("end", rank)))
    if not open_dims(x):
        return s.constant(np.array(static(x, "x")[start:end], np.int32))
    dims = s.op("shape", x=x)
    return dims if (start, end) == (0, rank) else s.op("slice_by_index", x=dims, begin=[start], end=[end])


@lowers("Size", to="const", limits="an open shape")
def size(s: Scope) -> Var:
    """The count of values."""
    return s.constant(np.int32(np.prod(s.shape(), dtype=np.int64)))


@lowers("Identity", to="identity")
def identity(s: Scope) -> Var:
    """Nothing."""
    return s.op("identity", x=s.x())


@lowers("Constant", to="const", limits="strings, sparse values")
def constant(s: Scope) -> Var:
    """A value in a branch; those of the graph itself are initializers by now."""
    for name, dtype in (("value", None), ("value_float", np.float32), ("value_floats", np.float32),
                        ("value_int", np.int64), ("value_ints", np.int64)):  # fmt: skip
        if name in s.node.attrs:
            return s.constant(converted(np.asarray(s.attr(name), dtype)))
    raise Refused("a string or a sparse value")


@lowers("ConstantOfShape", to="fill")
def constant_of_shape(s: Scope) -> Var:
    """One value everywhere."""
    value = np.asarray(s.attr("value", np.zeros(1, np.float32))).reshape(-1)[:1]
    number = converted(value)[0]
    wanted = s.known(0)
    if wanted is not None and 0 in wanted:
        raise Refused("an empty result")
    if wanted is not None:
        return s.constant(np.full([int(n) for n in wanted.reshape(-1)], number))
    if number.dtype == np.bool_:
        return s.cast(s.op("fill", shape=s.x(0), value=np.int32(number)), "bool")
    return s.op("fill", shape=s.x(0), value=number)


@lowers("Range", to="range_1d")
def arange(s: Scope) -> Var:
    """start, start + step, ... before limit"""
    known: list[Any] = [v.reshape(())[()] for v in map(s.known, range(3)) if v is not None]
    if len(known) == 3:
        return s.constant(np.arange(*known).astype(known[0].dtype))
    start, limit, step = s.alike(s.x(0), s.x(1), s.x(2))
    return s.op("range_1d", start=start, end=limit, step=step)


@lowers("DepthToSpace", to="depth_to_space, pixel_shuffle")
def depth_to_space(s: Scope) -> Var:
    """DCR or CRD."""
    size = int(s.attr("blocksize"))
    if s.attr("mode", "DCR") == "CRD":
        return s.op("pixel_shuffle", x=s.x(), upscale_factor=size)
    return s.op("depth_to_space", x=s.x(), block_size=size)


@lowers("SpaceToDepth", to="space_to_depth, pixel_unshuffle")
def space_to_depth(s: Scope) -> Var:
    """The inverse of DepthToSpace."""
    size = int(s.attr("blocksize"))
    if s.attr("mode", "DCR") == "CRD":
        return s.op("pixel_unshuffle", x=s.x(), downscale_factor=np.uint32(size))
    return s.op("space_to_depth", x=s.x(), block_size=size)


@lowers("Trilu", to="mul, band_part", limits="a computed diagonal, an open shape")
def trilu(s: Scope) -> Var:
    """The other half becomes zero: a product with a constant mask, or select where values may be infinite."""
    shift = int(s.need(1, "the diagonal").reshape(())) if s.has(1) else 0
    x, (rows, columns) = s.x(), s.shape()[-2:]
    ones = np.ones((rows, columns), np.bool_)
    mask = np.triu(ones, shift) if s.attr("upper", 1) else np.tril(ones, shift)
    if type_of(x) == "bool":
        return s.op("logical_and", x=x, y=s.constant(mask))
    if not mask.any():
        return s.op("mul", x=x, y=s.scalar(0, x))
    whole = np.broadcast_to(mask, s.shape()).copy()
    zeros = s.constant(np.zeros(s.shape(), np.float32 if type_of(x) == "fp32" else NPT[type_of(x)]))
    return s.op("select", cond=s.constant(whole), a=x, b=zeros)


NPT = {"fp16": np.float16, "int32": np.int32}


@lowers("EyeLike", to="const", limits="an open shape, 8-bit types")
def eye_like(s: Scope) -> Var:
    """Ones on a diagonal."""
    from onnx import helper

    from qcompiler.backends.coreml.lower.scope import NP, mil_type

    wanted = s.attr("dtype")
    dtype = s.onnx_type() if wanted is None else helper.tensor_dtype_to_np_dtype(int(wanted))
    rows, columns = s.shape()
    return s.constant(np.eye(rows, columns, int(s.attr("k", 0))).astype(NP[mil_type(np.dtype(dtype))]))
