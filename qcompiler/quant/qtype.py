"""Storage types of quantized values, as data.

Integer types hold `round(x / scale) + zero_point`, float types the nearest representable `x / scale`,
codebook types an index. Bits, ranges and ONNX type numbers are those of the ONNX 1.18 operator standard.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["int", "float", "codebook"]


@dataclass(frozen=True, slots=True)
class QType:
    """One storage type.

    Attributes:
        name: the name used in recipes, plans and reports.
        kind: how a code becomes a number.
        bits: storage bits for one value.
        low, high: smallest and largest finite value of the grid, in units of the scale.
        onnx: the `onnx.TensorProto.DataType` number of what holds a code, 0 where ONNX has no such type.
    """

    name: str
    kind: Kind
    bits: int
    low: float
    high: float
    onnx: int = 0

    @property
    def signed(self) -> bool:
        """Whether the grid holds negative values."""
        return self.low < 0

    def __str__(self) -> str:
        return self.name


INT2 = QType("int2", "int", 2, -2, 1, 26)
UINT2 = QType("uint2", "int", 2, 0, 3, 25)
UINT3 = QType("uint3", "int", 3, 0, 7, 21)
INT4 = QType("int4", "int", 4, -8, 7, 22)
UINT4 = QType("uint4", "int", 4, 0, 15, 21)
INT8 = QType("int8", "int", 8, -128, 127, 3)
UINT8 = QType("uint8", "int", 8, 0, 255, 2)
INT16 = QType("int16", "int", 16, -32768, 32767, 5)
UINT16 = QType("uint16", "int", 16, 0, 65535, 4)
INT32 = QType("int32", "int", 32, -(2**31), 2**31 - 1, 6)
FP8_E4M3 = QType("fp8_e4m3", "float", 8, -448, 448, 17)
FP8_E5M2 = QType("fp8_e5m2", "float", 8, -57344, 57344, 19)
FP4_E2M1 = QType("fp4_e2m1", "float", 4, -6, 6, 23)
FP16 = QType("fp16", "float", 16, -65504, 65504, 10)
BF16 = QType("bf16", "float", 16, -3.3895313892515355e38, 3.3895313892515355e38, 16)
NF4 = QType("nf4", "codebook", 4, -127, 127, 21)
E2M1 = QType("e2m1", "codebook", 4, -12, 12, 21)
BOOK2 = QType("book2", "codebook", 2, -127, 127, 21)
BOOK3 = QType("book3", "codebook", 3, -127, 127, 21)
BOOK4 = QType("book4", "codebook", 4, -127, 127, 21)
PALETTE4 = QType("palette4", "codebook", 4, 0, 15, 21)
PALETTE6 = QType("palette6", "codebook", 6, 0, 63, 2)

QTYPES: dict[str, QType] = {
    t.name: t
    for t in (
        INT2, UINT2, UINT3, INT4, UINT4, INT8, UINT8, INT16, UINT16, INT32, FP8_E4M3, FP8_E5M2, FP4_E2M1, FP16, BF16,
        NF4, E2M1, BOOK2, BOOK3, BOOK4, PALETTE4, PALETTE6,
    )
}  # fmt: skip
