"""What kind of quantization a value gets (`QSpec`) and with which numbers (`Encoding`)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from qcompiler.quant.qtype import QType

ScaleKind = Literal["f32", "f16", "half", "pow2", "e8m0", "e4m3"]


@dataclass(frozen=True, slots=True)
class PerTensor:
    """One scale for the whole tensor."""

    def __str__(self) -> str:
        return "tensor"


@dataclass(frozen=True, slots=True)
class PerAxis:
    """One scale for each index of `axis`."""

    axis: int

    def __str__(self) -> str:
        return f"axis {self.axis}"


@dataclass(frozen=True, slots=True)
class PerBlock:
    """One scale for each run of `size` values along `axis`."""

    axis: int
    size: int

    def __str__(self) -> str:
        return f"block of {self.size} along axis {self.axis}"


@dataclass(frozen=True, slots=True)
class PerGroup:
    """One palette for each run of `size` indices of `axis`, whatever the other indices are."""

    axis: int
    size: int

    def __str__(self) -> str:
        return f"groups of {self.size} of axis {self.axis}"


Granularity = PerTensor | PerAxis | PerBlock | PerGroup


@dataclass(frozen=True, slots=True)
class QSpec:
    """A kind of quantization: no numbers, hashable, printable.

    Attributes:
        qtype: storage type.
        granularity: which values share a scale.
        symmetric: the zero point is fixed (0 for signed types, the middle for unsigned ones).
        narrow: signed integers leave their lowest code unused, so that the grid is symmetric about zero.
        scale: the form that scales are rounded to before codes are computed.
        dynamic: scale and zero point are computed by the runtime from each input.
    """

    qtype: QType
    granularity: Granularity = field(default_factory=PerTensor)
    symmetric: bool = False
    narrow: bool = False
    scale: ScaleKind = "f32"
    dynamic: bool = False

    @property
    def low(self) -> int:
        """Smallest code of an integer grid."""
        return int(self.qtype.low) + int(self.narrow and self.qtype.signed)

    @property
    def high(self) -> int:
        """Largest code of an integer grid."""
        return int(self.qtype.high)

    def __str__(self) -> str:
        symmetry = "" if self.qtype.kind == "float" else " symmetric" if self.symmetric else " asymmetric"
        words = [f"{self.qtype}{symmetry}", f"per {self.granularity}"]
        return " ".join(words + (["dynamic"] if self.dynamic else []))


@dataclass(frozen=True, eq=False)
class Encoding:
    """The numbers of one quantized value: `x ~ (code - zero_point) * scale`; float types have zero point 0.

    Attributes:
        spec: the kind.
        scale: float32, rank 0 for per-tensor, rank 1 for per-axis, of the rank of the tensor for blocks.
        zero_point: int32, same shape as `scale`.
        method: how the range was chosen (`minmax`, `mse`, `given`, ...).
        codes: codes of a constant whose rounding was optimised; None means nearest.
        codebook: float32, one row of values for each group of a palette, or one for all blocks, in units of their
            scales; the codes are then indices into it.
    """

    spec: QSpec
    scale: npt.NDArray[np.float32]
    zero_point: npt.NDArray[np.int32]
    method: str
    codes: npt.NDArray[np.generic] | None = None
    codebook: npt.NDArray[np.float32] | None = None

    @property
    def range(self) -> tuple[float, float]:
        """Smallest and largest value that the grid represents, over all its scales."""
        low = (self.spec.low - self.zero_point.astype(np.float64)) * self.scale
        high = (self.spec.high - self.zero_point.astype(np.float64)) * self.scale
        return float(low.min()), float(high.max())

    def outline(self) -> Encoding:
        """What reports say of millions of scales: extremes in place of the numbers, and no codes."""
        scale = np.array([[self.scale.min(), self.scale.max()]], np.float32)
        zero = np.array([[self.zero_point.min(), self.zero_point.max()]], np.int32)
        return replace(self, scale=scale, zero_point=zero, codes=np.zeros((0, 0), np.uint8))
