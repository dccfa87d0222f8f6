"""The GPUs, by compute capability: what each computes in, and what stands in for it in the builder.

`tensorrt-rtx` builds for SM75, 80, 86, 89 and 120 without a GPU. It knows no SM90 and no SM100 (fact sheet, section 4):
those are checked on the nearest one that has the same types.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Gpu:
    """One compute capability.

    Attributes:
        summary: which GPUs these are.
        sm: 10 * major + minor.
        proxy: the capability that the builder compiles for in its place; its own where it can.
    """

    summary: str
    sm: int
    proxy: str

    @property
    def exact(self) -> bool:
        """Whether the builder compiles for this very capability."""
        return self.proxy == f"SM{self.sm}"

    @property
    def int8_conv(self) -> bool:
        """Turing runs every convolution in float, and dequantizes weights at each run (section 3.1)."""
        return self.sm >= 80

    @property
    def bf16(self) -> bool:
        """Ampere and later; INT4 weights alike (section 1)."""
        return self.sm >= 80

    @property
    def fp8(self) -> bool:
        """Ada and later."""
        return self.sm >= 89

    @property
    def fp4(self) -> bool:
        """Blackwell."""
        return self.sm >= 100


GPUS = MappingProxyType(
    {
        "sm89": Gpu("Ada: RTX 40, L4, L40", 89, "SM89"),
        "sm75": Gpu("Turing: T4, RTX 20; INT8 for MatMul and Gemm only", 75, "SM75"),
        "sm80": Gpu("Ampere: A100, A30", 80, "SM80"),
        "sm86": Gpu("Ampere: RTX 30, A10, A40; Orin", 86, "SM86"),
        "sm90": Gpu("Hopper: H100, H200; built for sm89 in its place", 90, "SM89"),
        "sm100": Gpu("Blackwell: B200; built for sm120 in its place", 100, "SM120"),
        "sm120": Gpu("Blackwell: RTX 50, RTX PRO", 120, "SM120"),
    }
)
