"""Formats of weights in blocks, by name: how they are stored, and what ONNX Runtime computes with.

    int         whole numbers of 2, 3, 4 or 8 bits, with or without zero points
    ternary     -1, 0, 1, in 2 bits
    nf4         16 levels at the quantiles of a normal distribution

All have kernels: 2, 4 and 8 bits as they are, what else there is after it was unpacked once (`unpack`).
Sources: Dettmers et al., "QLoRA" (2023), for nf4.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from qcompiler.errors import UsageError
from qcompiler.quant import PerBlock, QSpec, QType
from qcompiler.quant.qtype import INT2, NF4, UINT2, UINT3, UINT4, UINT8

SIZE, SIZES = 32, (16, 32, 64, 128, 256)


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        types: what it can be stored as, by bits.
        bits: where none are asked for.
        only: the one size that its blocks have; 0 for any.
        narrow: as in `QSpec`.
    """

    types: Mapping[int, QType]
    bits: int = 4
    only: int = 0
    narrow: bool = False

    def spec(self, bits: int, size: int, *, symmetric: bool) -> QSpec:
        """The spec of a matrix; the axis is turned to what is summed over."""
        return QSpec(self.types[bits], PerBlock(0, size), symmetric=symmetric or self.symmetric, narrow=self.narrow)

    @property
    def symmetric(self) -> bool:
        """Whether it has no zero points."""
        return self.narrow or any(qtype.kind != "int" for qtype in self.types.values())


FORMATS: Mapping[str, Format] = {
    "int": Format({2: UINT2, 3: UINT3, 4: UINT4, 8: UINT8}),
    "ternary": Format({2: INT2}, bits=2, narrow=True),
    "nf4": Format({4: NF4}),
}


def checked(name: str, bits: int, size: int) -> tuple[int, int]:
    """The bits of a format and the size of its blocks, each given as 0 for what is usual.

    Raises:
        UsageError: there is no such format, or not with these.
    """
    if name not in FORMATS:
        raise UsageError(f"there is no format {name!r}", where="--format", hint=f"known: {', '.join(FORMATS)}")
    form = FORMATS[name]
    bits, size = bits or form.bits, size or form.only or SIZE
    if bits not in form.types:
        *others, last = map(str, form.types)
        known = f"{', '.join(others)} or {last}" if others else last
        raise UsageError(f"format {name} has no weights of {bits} bits", where="--bits", hint=known)
    if size not in SIZES:
        raise UsageError(f"no kernel has blocks of {size}", where="--block", hint="16, 32, 64, 128 or 256")
    if form.only and size != form.only:
        raise UsageError(f"format {name} has no blocks of {size}", where="--block", hint=str(form.only))
    return bits, size
