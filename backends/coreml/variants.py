"""What the oldest OS and the compute unit change: which precisions there are, and why others are not.

Sources: Core ML fact sheet, sections 2.1 (operators by OS), 2.4 (W8A8 patterns, field reports), and the coremltools
guides "Optimization overview", "Quantization API". Nothing here was run on an Apple device.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

from qcompiler.errors import UsageError

UNITS = MappingProxyType({"ane": "Neural Engine", "gpu": "GPU", "cpu": "CPU"})
SYSTEMS = MappingProxyType({16: "iOS 16, macOS 13", 17: "iOS 17, macOS 14", 18: "iOS 18, macOS 15"})
DEFAULT_UNIT = "ane"


@dataclass(frozen=True)
class Limit:
    """A precision that needs an OS, or that a unit does not take.

    Attributes:
        os: the first that has it.
        not_on: units that do not take it.
        rule: why, for a person.
        instead: what to ask for.
    """

    os: int
    rule: str
    instead: str
    not_on: tuple[str, ...] = ()


LIMITS = MappingProxyType(
    {
        "w8a8": Limit(17, "quantize and dequantize of activations came with iOS 17", "w8"),
        "mixed": Limit(17, "quantize and dequantize of activations came with iOS 17", "w8"),
        "w4-block": Limit(
            18,
            "int4 weights in blocks came with iOS 18, and the Neural Engine takes linear weights per tensor and per "
            "output channel alone: in blocks it is refused, moved to the CPU or wrong",
            "w4-palette, or a target coreml:ios18-gpu",
            ("ane",),
        ),
    }
)

SLOW = frozenset({("w8a8", "gpu"), ("w8a8", "cpu"), ("mixed", "gpu"), ("mixed", "cpu")})
"""Taken, and slower than float16 by Apple's own word: activations are dequantized at run time."""


@dataclass(frozen=True)
class Variant:
    """An OS and a unit."""

    os: int
    unit: str

    @staticmethod
    def parse(text: str) -> Variant:
        """`ios18-ane`, `ios17`, or empty for the default.

        Raises:
            UsageError: another form.
        """
        name, _, unit = (text or "ios18").partition("-")
        unit = unit or DEFAULT_UNIT
        systems = {f"ios{number}": number for number in SYSTEMS}
        if name not in systems or unit not in UNITS:
            known = ", ".join(variants())
            raise UsageError(f"target 'coreml' has no variant {text!r}", where="--target", hint=f"known: {known}")
        return Variant(systems[name], unit)

    @property
    def name(self) -> str:
        """As given to `--target`."""
        return f"ios{self.os}-{self.unit}"

    def refusal(self, precision: str) -> tuple[str, str] | None:
        """Why the variant does not take a precision, and what to ask for; None where it does."""
        limit = LIMITS.get(precision)
        if limit is None or (self.os >= limit.os and self.unit not in limit.not_on):
            return None
        return f"{precision} is not for {self.name}: {limit.rule}", limit.instead


def variants() -> dict[str, str]:
    """Every variant with a description, the default first."""
    found = {
        f"ios{os}-{unit}": f"{system}, {where}"
        for os, system in sorted(SYSTEMS.items(), reverse=True)
        for unit, where in UNITS.items()
    }
    return {**found, **{f"ios{os}": f"{system}, {UNITS[DEFAULT_UNIT]}" for os, system in SYSTEMS.items()}}
