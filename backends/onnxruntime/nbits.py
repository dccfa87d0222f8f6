"""DequantizeLinear in blocks, then MatMul, Gemm or Gather -> ONNX Runtime's operators on packed weights.

    x -> MatMul(x, DQ(codes (K, N)))     MatMulNBits(x, B (N, K / block, bytes), scales (N, K / block), zero points)
    x -> Gemm(x, DQ(...), b)             the same, with the bias as its last input
    Gather(DQ(codes (V, K)), indices)    GatherBlockQuantized(codes (V, bytes), indices, scales, zero points)

Codes are unsigned; signed ones are shifted by half their range. They are packed along K, the first one in the lowest
bits; a short last block is filled with zero points. Zero points that are all in the middle are left out, which stands
for the same. A table whose codes are those of a layer reads the layer's array through a Reshape, where rows are whole
blocks: one copy stays one.

2, 4 and 8 bits have kernels. Codes that DequantizeLinear reads from a book are packed as they are, and unpacked into
those of a kernel when the model is loaded (`unpack`). What has no kernel (blocks under 16) stays as it is.

`accuracy_level` 4 lets the kernel round x to int8 in each block, which is what VNNI and dot products compute fast; 0
computes in float32, 2 to 60 times slower (fact sheet, section 7). The error of int8 in blocks is far below that of
4-bit weights; for 8-bit weights it is of their size.

Source: ONNX Runtime, ContribOperators.md, MatMulNBits and GatherBlockQuantized.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from qcompiler import ir
from qcompiler.backends.onnxruntime.scales import Scales
from qcompiler.backends.onnxruntime.unpack import PLANES, Book, Unpacker, together
from qcompiler.backends.onnxruntime.weight_formats import SIZES, fitting
from qcompiler.pipeline import GraphPass, PassRecord
from qcompiler.rewrite import Refusal

DOMAIN = "com.microsoft"
WIDTHS = {"int2": 2, "uint2": 2, "int4": 4, "uint4": 4, "int8": 8, "uint8": 8}
PIECE = 1 << 18
"""Codes that are packed at a time."""
U8 = npt.NDArray[np.uint8]


class Packed(NamedTuple):
    """A matrix as the operators store it: rows of bytes, scales and zero points (None where all are in the middle).

    Attributes:
        bits: of the kernel.
        source: the codes, not packed.
        planes: each gives (rows, blocks, bytes); one where there is no book.
        book: what the kernel reads for each code; None for the code itself.
    """

    bits: int
    size: int
    rows: int
    k: int
    source: ir.Constant
    planes: Sequence[Callable[[], U8]]
    book: Book | None
    scale: Scales
    zero: U8 | None

    @property
    def form(self) -> tuple[int, int, int]:
        """(rows, blocks, bytes)."""
        return self.rows, -(-self.k // self.size), self.size * self.bits // 8

    @property
    def codes(self) -> Callable[[], U8]:
        """The bytes of a matrix without a book."""
        (found,) = self.planes
        return found

    def stored(self, shape: tuple[int, ...], codes: Callable[[], U8]) -> U8 | ir.Deferred:
        """Bytes in a shape, packed only when they are written where the codes lie on disk."""
        return ir.Deferred(shape, np.uint8, codes) if ir.on_disk(self.source) else codes()


@dataclass(frozen=True)
class UseNBits(GraphPass):
    """Replaces nodes that read weights through DequantizeLinear in blocks.

    Attributes:
        accuracy_level: of MatMulNBits.
    """

    name: ClassVar[str] = "use-nbits"
    accuracy_level: int = 4

    def apply(self, model: ir.Model, record: PassRecord) -> None:
        """Each node replaced is a change."""
        edit = ir.Editor(model, model.graph)
        shared: dict[bytes | int, ir.Tensor] = {}
        unpacker = Unpacker(edit)
        nodes = list(weighted(model))
        tables = {tuple(dequantize.outputs[0].shape) for node, dequantize in nodes if node.op == "Gather"}
        for node, dequantize in nodes:
            packed = pack(dequantize)
            if isinstance(packed, str):
                record.refusals.append(Refusal(self.name, node.name, packed))
                continue
            if node.op == "Gather" and packed.book is not None:
                record.refusals.append(Refusal(self.name, node.name, "tables have no kernel for codes in a book"))
                continue
            if node.op == "Gather":
                _gather(edit, node, packed, shared)
            else:
                transposed = bool(node.attrs.get("transB", 0))
                reduced = 1 if transposed else 0
                if dequantize.attrs.get("axis", 1) % 2 != reduced:
                    record.refusals.append(Refusal(self.name, node.name, "blocks do not run along what is summed over"))
                    continue
                if packed.book is not None and id(packed.source) not in shared:
                    shared[id(packed.source)] = unpacked(unpacker, node, packed, packed.book)
                self._matmul(edit, node, packed, shared, twin=(packed.rows, packed.k) in tables)
            record.changes += 1
            if not edit.uses(dequantize.outputs[0]):
                edit.erase(dequantize)

    def _matmul(
        self, edit: ir.Editor, node: ir.Node, packed: Packed, shared: dict[bytes | int, ir.Tensor], *, twin: bool
    ) -> None:
        hint, outputs = node.name, list(node.outputs)
        key = id(packed.source)
        if key not in shared:
            shared[key] = edit.constant(f"{hint}_b", packed.stored(packed.form, packed.codes))
            if twin:
                shared.setdefault(_key(packed.codes()), shared[key])
        weight = shared[key]
        inputs: list[ir.Tensor | None] = [node.inputs[0], weight, packed.scale.tensor(edit, f"{hint}_scales", node)]
        inputs.append(None if packed.zero is None else edit.constant(f"{hint}_zero_points", packed.zero))
        if len(node.inputs) > 2 and node.inputs[2].name:
            inputs += [None, node.inputs[2]]
        while inputs[-1] is None:
            inputs.pop()
        attrs = {
            "K": packed.k, "N": packed.rows, "bits": packed.bits, "block_size": packed.size,
            "accuracy_level": self.accuracy_level,
        }  # fmt: skip
        edit.set_outputs(node, [])
        edit.add("MatMulNBits", inputs, name=hint, attrs=attrs, outputs=outputs, domain=DOMAIN, before=node)
        edit.erase(node)


def _gather(edit: ir.Editor, node: ir.Node, packed: Packed, shared: dict[bytes | int, ir.Tensor]) -> None:
    hint, outputs = node.name, list(node.outputs)
    width = packed.k * packed.bits // 8
    layers = [key for key in shared if isinstance(key, bytes)] if packed.k % packed.size == 0 else []
    layer = shared.get(_key(packed.codes())) if layers else None
    table: ir.Tensor
    if layer is not None:
        form = edit.constant(f"{hint}_form", np.array([packed.rows, width], np.int64))
        table = edit.variable(f"{hint}_table", np.dtype(np.uint8), [packed.rows, width])
        edit.add("Reshape", [layer, form], name=f"{hint}_reshape", outputs=[table], before=node)
    else:

        def flat() -> U8:
            return np.ascontiguousarray(packed.codes().reshape(packed.rows, -1)[:, :width])

        table = edit.constant(f"{hint}_table", packed.stored((packed.rows, width), flat))
    inputs = [table, node.inputs[1], packed.scale.tensor(edit, f"{hint}_scales", node)]
    if packed.zero is not None:
        inputs.append(edit.constant(f"{hint}_zero_points", packed.zero))
    attrs = {"bits": packed.bits, "block_size": packed.size, "gather_axis": 0, "quantize_axis": 1}
    edit.set_outputs(node, [])
    edit.add("GatherBlockQuantized", inputs, name=hint, attrs=attrs, outputs=outputs, domain=DOMAIN, before=node)
    edit.erase(node)


def unpacked(unpacker: Unpacker, node: ir.Node, packed: Packed, book: Book) -> ir.Tensor:
    """What the kernel reads in place of codes that have a book."""
    rows, blocks, _ = packed.form
    parts = [
        packed.stored((rows, blocks, packed.size * width // 8), plane)
        for (_, width), plane in zip(book.planes, packed.planes, strict=True)
    ]
    return unpacker.unpacked(book, parts, packed.form, node)


def weighted(model: ir.Model) -> Iterator[tuple[ir.Node, ir.Node]]:
    """The nodes that read constants through DequantizeLinear in blocks, layers before tables, each with that node."""
    found = []
    for node in model.nodes:
        port = {"MatMul": 1, "Gemm": 1, "Gather": 0}.get(node.op)
        if port is None or node.domain or port >= len(node.inputs) or not node.inputs[port].inputs:
            continue
        source = node.inputs[port].inputs[0]
        if source.op == "DequantizeLinear" and source.attrs.get("block_size", 0) and _codes(source) is not None:
            found.append((node, source))
    yield from sorted(found, key=lambda pair: pair[0].op == "Gather")


def _codes(dequantize: ir.Node) -> tuple[ir.Constant, U8 | None] | None:
    """The codes and what they are looked up in, if anything; None where they are not known."""
    codes, scale, *rest = dequantize.inputs
    if Scales.read(scale) is None or not all(isinstance(tensor, ir.Constant) for tensor in rest):
        return None
    if isinstance(codes, ir.Constant):
        return codes, None
    if codes.inputs and codes.inputs[0].op == "Gather" and isinstance(codes.inputs[0].inputs[0], ir.Constant):
        book, index = codes.inputs[0].inputs
        cast = index.inputs[0] if index.inputs else None
        if cast is not None and cast.op == "Cast" and isinstance(cast.inputs[0], ir.Constant):
            return cast.inputs[0], ir.array(book)
    return None


def pack(dequantize: ir.Node) -> Packed | str:
    """The weights in the operators' layout, or why they have none."""
    found = _codes(dequantize)
    assert found is not None
    source, entries = found
    kind = str(np.dtype(source.dtype if entries is None else entries.dtype))
    size, axis = int(dequantize.attrs["block_size"]), int(dequantize.attrs.get("axis", 1)) % 2
    if kind not in WIDTHS:
        return f"there is no kernel for {kind}"
    if size < SIZES[0] or size & (size - 1):
        return f"blocks of {size} have no kernel: a power of two from {SIZES[0]} on"
    rows, k = (int(d) for d in (source.shape if axis else source.shape[::-1]))
    size = fitting(size, k)
    scale = Scales.read(dequantize.inputs[1])
    assert scale is not None
    scale = replace(scale, stored=np.ascontiguousarray(turned(scale.stored, axis)))
    rest = [turned(ir.array(tensor), axis) for tensor in dequantize.inputs[2:]]
    given = rest[0] if rest else np.zeros(scale.stored.shape, np.int8)
    bits, shift = WIDTHS[kind], 1 << (WIDTHS[kind] - 1) if kind.startswith("int") else 0
    fill = np.asarray(given.astype(np.int16) + shift, np.uint8)
    zero, book = fill, None
    if entries is not None:
        if len(entries) not in (1 << width for width in PLANES):
            return f"there is no kernel for a book of {len(entries)} entries"
        read = np.asarray(entries.astype(np.int16) + shift, np.uint8)
        bits = 4 if read.max() < 16 else 8
        places = np.zeros(256, np.uint8)
        places[read[::-1]] = np.arange(len(read))[::-1]
        fill, shift = places[zero], 0
        if (zero == zero.flat[0]).all():  # moved to the middle, which goes without saying
            ahead = (1 << (bits - 1)) - int(zero.flat[0])
            read, zero = read + np.uint8(ahead % 256), np.full_like(zero, 1 << (bits - 1))
        book = Book(read, bits)

    def plane(low: int, width: int) -> Callable[[], U8]:
        return lambda: packed_rows(turned(ir.array(source), axis), fill, shift, width, size, low)

    planes = [plane(*place) for place in (((0, bits),) if book is None else book.planes)]
    zeros = None if (zero == 1 << (bits - 1)).all() else together(zero, bits)
    return Packed(bits, size, rows, k, source, planes, book, scale, zeros)


def turned(values: npt.NDArray[Any], axis: int) -> npt.NDArray[Any]:
    """The matrix with blocks along its rows."""
    return values.T if axis == 0 else values


def packed_rows(codes: npt.NDArray[Any], zero: U8, shift: int, bits: int, size: int, low: int = 0) -> U8:
    """Bits from `low` on of codes, as (rows, blocks, bytes), a few rows at a time.

    A short last block is filled with zero points.
    """
    rows, k = codes.shape
    missing = -k % size
    found = np.empty((rows, (k + missing) // size, size * bits // 8), np.uint8)
    step = max(1, PIECE // max(k, 1))
    for start in range(0, rows, step):
        part = slice(start, start + step)
        piece = np.asarray(codes[part].astype(np.int16) + shift, np.uint8)
        if missing:
            piece = np.concatenate([piece, np.repeat(zero[part, -1:], missing, axis=1)], axis=1)
        if low or bits < 8:
            piece = piece >> np.uint8(low) & np.uint8((1 << bits) - 1)
        found[part] = together(piece, bits).reshape(len(piece), found.shape[1], -1)
    return found


def _key(values: U8) -> bytes:
    return sha256(str(values.shape).encode() + sha256(np.ascontiguousarray(values).data).digest()).digest()
