"""Formats of weights in blocks, by name: how they are stored, and what ONNX Runtime computes with.

    int         whole numbers of 2, 3, 4 or 8 bits, with or without zero points
    ternary     -1, 0, 1, in 2 bits
    nf4         16 levels at the quantiles of a normal distribution
    fp4         E2M1 floats
    mxfp4       the same, in blocks of 32, whose scales are powers of two, a byte each
    nvfp4       the same, in blocks of 16, whose scales are E4M3 floats, and one float32 factor for all
    fp8         E4M3 floats
    codebook    of 2, 3 or 4 bits: levels that are learned from each matrix

All have kernels but fp8: 2, 4 and 8 bits as they are, what else there is after it was unpacked once (`unpack`).
Sources: Dettmers et al., "QLoRA" (2023), for nf4; OCP Microscaling Formats 1.0; NVIDIA's description of NVFP4.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from qcompiler.errors import UsageError
from qcompiler.quant import PerBlock, QSpec, QType
from qcompiler.quant.qtype import BOOK2, BOOK3, BOOK4, E2M1, FP8_E4M3, INT2, NF4, UINT2, UINT3, UINT4, UINT8
from qcompiler.quant.spec import ScaleKind

SIZE, SIZES = 32, (16, 32, 64, 128, 256)


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        types: what it can be stored as, by bits.
        bits: where none are asked for.
        only: the one size that its blocks have; 0 for any.
        narrow, scale: as in `QSpec`.
    """

    types: Mapping[int, QType]
    bits: int = 4
    only: int = 0
    narrow: bool = False
    scale: ScaleKind = "f32"

    def spec(self, bits: int, size: int, *, symmetric: bool) -> QSpec:
        """The spec of a matrix; the axis is turned to what is summed over."""
        symmetric = symmetric or self.symmetric
        return QSpec(self.types[bits], PerBlock(0, size), symmetric, self.narrow, self.scale)

    @property
    def symmetric(self) -> bool:
        """Whether it has no zero points."""
        return self.narrow or any(qtype.kind != "int" for qtype in self.types.values())


FORMATS: Mapping[str, Format] = {
    "int": Format({2: UINT2, 3: UINT3, 4: UINT4, 8: UINT8}),
    "ternary": Format({2: INT2}, bits=2, narrow=True),
    "nf4": Format({4: NF4}),
    "fp4": Format({4: E2M1}),
    "mxfp4": Format({4: E2M1}, only=32, scale="e8m0"),
    "nvfp4": Format({4: E2M1}, only=16, scale="e4m3"),
    "fp8": Format({8: FP8_E4M3}, bits=8),
    "codebook": Format({2: BOOK2, 3: BOOK3, 4: BOOK4}),
}


def fitting(size: int, width: int) -> int:
    """The size of blocks of a row: where one block holds it all, no more than is filled up to a size of a kernel."""
    return min(size, max(SIZES[0], 1 << (width - 1).bit_length()))


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
