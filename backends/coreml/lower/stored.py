"""Weights that stay compressed: how a constant is stored in our graph, and the constexpr operation that says so.

    DequantizeLinear(codes, scale, zero point)       linear: per tensor, per axis, per block
    Gather(palette, Cast(codes) [+ group * 2^n])     palette: per tensor, or per group of indices of an axis

iOS 18 has one operator for all linear forms and one for palettes by group. iOS 16 and 17 have int8 per tensor or per
axis, written as uint8 with zero point 128 (fact sheet, section 2.4: signed codes gave wrong results there), and one
palette per tensor. Constants of rank 0 and 1, and int32 biases, become float: nothing is gained, and MIL wants them so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qcompiler import ir
from qcompiler.backends.coreml.lower.scope import Array, Refused, Scope, Var
from qcompiler.backends.coreml.tools import builder, nptype
from qcompiler.numerics.affine import dequantize


@dataclass(frozen=True, eq=False)
class Linear:
    """value = (code - zero_point) * scale.

    Attributes:
        codes: int8, uint8, int4, uint4 as int8 or uint8 values.
        scale, zero_point: of rank 0, or of the rank of `codes` with the count of blocks of each axis.
        bits: of a code.
    """

    codes: Array
    scale: Array
    zero_point: Array
    bits: int

    def moved(self, perm: Sequence[int]) -> Linear:
        """With its axes in another order."""
        scale, zero = (v.transpose(perm) if v.ndim else v for v in (self.scale, self.zero_point))
        return Linear(np.ascontiguousarray(self.codes.transpose(perm)), scale, zero, self.bits)


@dataclass(frozen=True, eq=False)
class Palette:
    """value = table[group, code]; groups run along one axis.

    Attributes:
        codes: uint8.
        table: float32, (groups, 2^bits).
        axis: of the groups.
    """

    codes: Array
    table: Array
    axis: int
    bits: int

    def moved(self, perm: Sequence[int]) -> Palette:
        """With its axes in another order."""
        axis = list(perm).index(self.axis)
        return Palette(np.ascontiguousarray(self.codes.transpose(perm)), self.table, axis, self.bits)


Stored = Linear | Palette
PALETTE_BITS = frozenset({1, 2, 4, 6, 8})


def weight(s: Scope, port: int, perm: Sequence[int] | None = None) -> Var:
    """A weight operand, its axes in the order of `perm`; compressed where our graph has it so."""
    found = stored(s.node.inputs[port]) if s.has(port) else None
    if found is None or len(found.codes.shape) < 2:
        x = s.x(port)
        return x if perm is None else s.transpose(x, perm)
    name = s.node.inputs[port].name
    if perm is not None and list(perm) != list(range(len(perm))):
        found, name = found.moved(perm), f"{name}_moved"
    if name not in s.program.values or perm is not None:
        s.program.values[name] = emitted(s, found, name)
    return s.program.values[name]


def stored(tensor: ir.Tensor) -> Stored | None:
    """How the value of a tensor is stored; None where it is no compressed constant."""
    node = tensor.inputs[0] if tensor.inputs and not isinstance(tensor, ir.Constant) else None
    if node is None:
        return None
    if node.op == "DequantizeLinear" and isinstance(node.inputs[0], ir.Constant):
        return linear_of(node)
    if node.op == "Gather" and isinstance(node.inputs[0], ir.Constant):
        return palette_of(node)
    return None


def linear_of(node: ir.Node) -> Linear | None:
    """The constant behind a DequantizeLinear, where it has 4 or 8 bits."""
    data = node.inputs[0]
    bits = {"int8": 8, "uint8": 8, "int4": 4, "uint4": 4}.get(str(data.dtype))
    if bits is None or not all(isinstance(t, ir.Constant) for t in node.inputs[1:] if t.name):
        return None
    codes = ir.array(data)
    codes = codes.astype(np.int8 if str(data.dtype).startswith("int") else np.uint8)
    scale = np.asarray(ir.array(node.inputs[1]), np.float32)
    zero = ir.array(node.inputs[2]).astype(np.int32) if len(node.inputs) > 2 and node.inputs[2].name else None
    zero = np.zeros(scale.shape, np.int32) if zero is None else zero
    if scale.ndim == 1 and scale.size == 1 and codes.ndim != 1:
        scale, zero = scale.reshape(()), zero.reshape(())
    if scale.ndim == 1 and codes.ndim > 1:
        form = [1] * codes.ndim
        form[int(node.attrs.get("axis", 1)) % codes.ndim] = -1
        scale, zero = scale.reshape(form), zero.reshape(form)
    return Linear(codes, scale, zero, bits)


def palette_of(node: ir.Node) -> Palette | None:
    """The constant behind Gather(palette, Cast(codes) + offsets)."""
    source, offsets = node.inputs[1].inputs[0] if node.inputs[1].inputs else None, None
    if source is not None and source.op == "Add" and isinstance(source.inputs[1], ir.Constant):
        offsets, inner = ir.array(source.inputs[1]), source.inputs[0]
        source = inner.inputs[0] if inner.inputs else None
    if source is None or source.op != "Cast" or not isinstance(source.inputs[0], ir.Constant):
        return None
    if str(source.inputs[0].dtype) not in ("uint4", "uint8"):
        return None
    groups = 1 if offsets is None else len(np.unique(offsets))
    table = np.asarray(ir.array(node.inputs[0]), np.float32).reshape(groups, -1)
    bits = table.shape[1].bit_length() - 1
    if bits not in PALETTE_BITS or table.shape[1] != 2**bits:
        return None
    codes = ir.array(source.inputs[0]).astype(np.uint8)
    axis = 0 if offsets is None else int(np.argmax(offsets.shape))
    return Palette(codes, table, axis, bits)


def dense(found: Stored) -> Array:
    """The float32 values of a stored constant."""
    if isinstance(found, Palette):
        groups = np.repeat(np.arange(len(found.table)), found.codes.shape[found.axis] // len(found.table))
        form = [1] * found.codes.ndim
        form[found.axis] = -1
        return np.asarray(found.table[groups.reshape(form), found.codes], np.float32)
    scale, zero = (spread(v, found.codes.shape) for v in (found.scale, found.zero_point))
    return np.asarray((found.codes.astype(np.int32) - zero).astype(np.float32) * scale, np.float32)


def spread(values: Array, shape: Sequence[int]) -> Array:
    """Scales by block as one for each value."""
    for axis, (have, want) in enumerate(zip(values.shape, shape, strict=True) if values.ndim else ()):
        if have not in (1, want):
            values = values.repeat(-(-want // have), axis).take(np.arange(want), axis)
    return values


# ---- MIL
def emitted(s: Scope, found: Stored, name: str) -> Var:
    """The constexpr operation of a stored constant.

    Raises:
        Refused: the oldest iOS has no such form.
    """
    clean = s.program.names.fresh(name)
    s.program.owner[clean] = s.node.name
    if isinstance(found, Palette):
        return _palette(s, found, clean)
    if s.os >= 18:
        return _blockwise(found, clean)
    return _affine(found, clean)


def _blockwise(found: Linear, name: str) -> Var:
    signed = found.codes.dtype == np.int8
    kind = nptype(f"{'' if signed else 'u'}int{found.bits}")
    shape = [1] * found.codes.ndim
    scale = found.scale if found.scale.ndim else found.scale.reshape(shape)
    zero = np.broadcast_to(found.zero_point, scale.shape) if found.zero_point.any() else None
    if any(n % m for n, m in zip(found.codes.shape, scale.shape, strict=True)):
        raise Refused(f"blocks of {name!r} do not divide its shape {list(found.codes.shape)}")
    given: dict[str, Any] = {} if zero is None else {"offset": zero.astype(np.int32).astype(kind)}
    data = found.codes.astype(np.int32).astype(kind)
    return builder().constexpr_blockwise_shift_scale(data=data, scale=scale.astype(np.float32), name=name, **given)


def _affine(found: Linear, name: str) -> Var:
    if found.bits != 8:
        raise Refused(f"{found.bits}-bit linear weights need iOS 18")
    wide = [axis for axis, n in enumerate(found.scale.shape) if n > 1]
    if len(wide) > 1 or (wide and found.scale.shape[wide[0]] != found.codes.shape[wide[0]]):
        raise Refused("weights in blocks need iOS 18")
    axis = wide[0] if wide else 0
    codes, zero = found.codes.astype(np.int32), found.zero_point
    scale: Any
    zeros: Any
    if found.codes.dtype == np.int8:
        codes, zero = codes + 128, zero + 128
    vector = [1] if not wide else [-1]
    scale = found.scale.reshape(vector) if wide else np.float32(found.scale.reshape(()))
    zeros = np.broadcast_to(zero, found.scale.shape)
    zeros = zeros.reshape(vector).astype(np.uint8) if wide else np.uint8(zeros.reshape(()))
    return builder().constexpr_affine_dequantize(
        quantized_data=codes.astype(np.uint8), zero_point=zeros, scale=scale, axis=np.int32(axis), name=name
    )


def _palette(s: Scope, found: Palette, name: str) -> Var:
    rank = found.codes.ndim
    if s.os >= 18:
        form = [1] * rank
        form[found.axis] = len(found.table)
        table = found.table.reshape(*form, 2**found.bits, 1)
        kind = nptype(f"uint{found.bits}")
        return builder().constexpr_lut_to_dense(indices=found.codes.astype(kind), lut=table, name=name)
    if len(found.table) > 1:
        raise Refused("palettes by group need iOS 18")
    bits = (found.codes.reshape(-1, 1) >> np.arange(found.bits)) & 1
    packed = np.packbits(bits.astype(np.uint8).reshape(-1), bitorder="little")
    shape = np.array(found.codes.shape, np.uint32)
    return builder().constexpr_lut_to_dense(indices=packed, lut=found.table.reshape(-1), shape=shape, name=name)


def as_float(node: ir.Node) -> Array:
    """The float32 values of DequantizeLinear of a constant of any integer type."""
    found = linear_of(node)
    if found is not None:
        return dense(found)
    data, scale = node.inputs[0], np.asarray(ir.array(node.inputs[1]), np.float32)
    zero = ir.array(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2].name else np.zeros((), np.int32)
    rank = len(data.shape)
    axis = None if scale.ndim == 0 or rank == 0 else int(node.attrs.get("axis", 1)) % rank if rank > 1 else 0
    block = int(node.attrs.get("block_size", 0)) or None
    zero = zero if zero.shape == scale.shape else np.broadcast_to(zero, scale.shape)
    return dequantize(ir.array(data), scale, zero, axis=axis, block_size=block)
