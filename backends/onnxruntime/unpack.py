"""Codes for which no kernel is made, packed in the file, unpacked into those of one that is, when the model is loaded.

    codes of n bits -> planes of bytes          2 bits: (2,), 3 bits: (2, 1), 4 bits: (4,), the low bits first
    plane -> Gather(table, Cast(bytes))         a byte has 8 / width codes; the table says what the kernel reads
    planes -> BitwiseOr                         then Gather(book, codes), where entries are no sum of planes

The kernel is that of 4 bits where the entries of the book are whole numbers from 0 to 15, else that of 8. All inputs
are constants, so ONNX Runtime folds it once, before it packs weights for its kernel: the file has the size of the
codes, memory and speed are those of the kernel. A lookup for each byte, not for each code, halves what folding takes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import TensorProto

from qcompiler import ir

U8 = npt.NDArray[np.uint8]
PLANES: Mapping[int, tuple[int, ...]] = {2: (2,), 3: (2, 1), 4: (4,)}
"""Widths of the planes that codes of a few bits lie in."""


@dataclass(frozen=True, eq=False)
class Book:
    """What codes are looked up in.

    Attributes:
        entries: uint8, one for each code, as the kernel reads them.
        bits: of the kernel.
    """

    entries: U8
    bits: int

    @property
    def width(self) -> int:
        """Bits of a code."""
        return (len(self.entries) - 1).bit_length()

    @property
    def planes(self) -> tuple[tuple[int, int], ...]:
        """(lowest bit, width) of each plane."""
        widths = PLANES[self.width]
        return tuple((sum(widths[:i]), width) for i, width in enumerate(widths))

    @property
    def first(self) -> int | None:
        """The first entry, where entries count up from it and its lowest bits, those of all planes but one, are 0."""
        first = int(self.entries[0])
        plain = np.array_equal(self.entries, first + np.arange(len(self.entries)))
        return first if plain and first % (1 << self.planes[-1][0]) == 0 else None


@dataclass(frozen=True, eq=False)
class Unpacker:
    """Writes the nodes; tables are shared by all weights.

    Attributes:
        edit: of the graph.
    """

    edit: ir.Editor
    _known: dict[tuple[str, tuple[int, ...], bytes], ir.Constant] = field(default_factory=dict)

    def unpacked(
        self, book: Book, planes: Sequence[U8 | ir.Deferred], form: tuple[int, ...], before: ir.Node
    ) -> ir.Tensor:
        """The bytes that the kernel reads.

        Args:
            book: what codes stand for.
            planes: as `Book.planes` has them.
            form: of the result: (rows, blocks, bytes).
            before: the node that reads it.
        """
        direct = len(planes) == 1 or book.first is not None
        shape = self._shared("form", np.array(form, np.int64))
        parts: list[ir.Tensor] = []
        for (low, width), plane in zip(book.planes, planes, strict=True):
            packed = self.edit.constant("packed", plane)
            if len(planes) == 1:
                entries = book.entries
            else:
                last, first = low == book.planes[-1][0], book.first or 0
                entries = np.asarray((np.arange(1 << width) << low) + (first if last else 0), np.uint8)
            found = self._looked_up(table(entries, width, book.bits if direct else 8), packed, before)
            parts.append(self._add("Reshape", [found, shape], np.uint8, before))
        while len(parts) > 1:
            parts[:2] = [self._add("BitwiseOr", parts[:2], np.uint8, before)]
        return parts[0] if direct else self._looked_up(book.entries, parts[0], before)

    def _looked_up(self, entries: U8, index: ir.Tensor, before: ir.Node) -> ir.Tensor:
        wide = self._add("Cast", [index], np.int32, before, to=int(TensorProto.INT32))
        return self._add("Gather", [self._shared("bytes", entries), wide], np.uint8, before)

    def _shared(self, hint: str, values: npt.NDArray[Any]) -> ir.Constant:
        key = (hint, values.shape, values.tobytes())
        if key not in self._known:
            self._known[key] = self.edit.constant(hint, values)
        return self._known[key]

    def _add(
        self, op: str, inputs: Sequence[ir.Tensor], dtype: npt.DTypeLike, before: ir.Node, **attrs: int
    ) -> ir.Tensor:
        output = self.edit.variable("unpacked", np.dtype(dtype))  # names are short: they would fill small models
        self.edit.add(op, inputs, name=f"unpack_{op.lower()}", attrs=attrs, outputs=[output], before=before)
        return output


def table(entries: U8, width: int, bits: int) -> U8:
    """(256, bytes): what the codes of `width` bits in each byte stand for, in `bits` each, the first one lowest."""
    places = np.arange(256)[:, None] >> np.arange(0, 8, width)
    return together(entries[places & ((1 << width) - 1)], bits)


def together(codes: U8, bits: int) -> U8:
    """Codes in bytes along each row, the first in the lowest bits; rows are filled up with zeros."""
    per = 8 // bits
    missing = -codes.shape[1] % per
    if missing:
        codes = np.concatenate([codes, np.zeros((len(codes), missing), np.uint8)], axis=1)
    packed = np.zeros((len(codes), codes.shape[1] // per), np.uint8)
    for place in range(per):
        packed |= codes[:, place::per] << np.uint8(place * bits)
    return packed
