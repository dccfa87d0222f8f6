"""How fast each GPU is, for choices of precision that no machine here can time: peak rates of a card of each kind.

Dense multiply-accumulates a second (half of the operations that NVIDIA states, and half again where it states sparse
ones) and memory bandwidth, from NVIDIA's data sheets: T4, A100 40GB PCIe, A10, L4, H100 SXM, B200 (HGX), GeForce RTX
5090 (Blackwell architecture white paper). A kind has many cards; ratios between precisions are alike within it.
"""

from __future__ import annotations

from types import MappingProxyType

from qcompiler.targets import Roofline

_TERA, _GIGA = 1e12, 1e9
_BITS = MappingProxyType({"float": 16, "int8": 8, "fp8": 8, "w8": 16, "w4": 16, "nvfp4": 4, "bf16": 16})


def _card(name: str, half: float, gigabytes: float, **rates: float) -> Roofline:
    """A card by its tera-operations a second in float16 and in smaller types, dense."""
    peaks = {"float": half, "bf16": half, "w8": half, "w4": half, **rates}
    return Roofline(
        MappingProxyType({name: peak * _TERA / 2 for name, peak in peaks.items()}),
        gigabytes * _GIGA,
        _BITS,
        f"data sheet of {name}",
        overhead=2e-6,
    )


ROOFLINES = MappingProxyType(
    {
        "sm75": _card("T4", 65, 320, int8=130),
        "sm80": _card("A100 40GB PCIe", 312, 1555, int8=624),
        "sm86": _card("A10", 125, 600, int8=250),
        "sm89": _card("L4", 121, 300, int8=242, fp8=242),
        "sm90": _card("H100 SXM", 989, 3350, int8=1979, fp8=1979),
        "sm100": _card("B200", 2250, 8000, int8=4500, fp8=4500, nvfp4=9000),
        "sm120": _card("GeForce RTX 5090", 419, 1792, int8=838, fp8=838, nvfp4=1676),
    }
)
