"""Systems on chip with a Hexagon tensor processor (HTP): number, architecture, size of its vector memory (VTCM).

Qualcomm's library takes a number or a name that it does not know, warns, and compiles for another chip (fact sheet,
rules 1 and 2), so the table here decides what exists. The number is what the library is given.
Sources: pytorch/executorch, backends/qualcomm/serialization/qc_schema.py; SM8635 and SM8735 its pull requests 15987 and
19216; SC8380XP the example of the QNN execution provider's documentation.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

from qcompiler.errors import UsageError

FLOAT16 = 69
"""The first architecture whose emulator computes in float16. On chips it is known from 73 on."""
FLOAT16_SURE = 73
SIGNED16 = 73
"""The first architecture that takes a signed 16-bit second operand."""


@dataclass(frozen=True, slots=True)
class Soc:
    """One chip.

    Attributes:
        name: as users write it.
        number: as the library knows it.
        arch: of its HTP: 68 stands for v68.
        vtcm: MiB; 0 where no source says.
    """

    name: str
    number: int
    arch: int
    vtcm: int

    def __str__(self) -> str:
        memory = f", {self.vtcm} MiB VTCM" if self.vtcm else ""
        return f"number {self.number}, v{self.arch}{memory}"


_TABLE = (
    Soc("sm8650", 57, 75, 8), Soc("sm8350", 30, 68, 4), Soc("sa8295", 39, 68, 8), Soc("sa8540", 62, 68, 8),
    Soc("qcm6490", 93, 68, 2), Soc("sm8450", 36, 69, 8), Soc("sm8475", 42, 69, 8), Soc("sxr2230p", 53, 69, 8),
    Soc("sm8550", 43, 73, 8), Soc("sm8635", 68, 73, 0), Soc("sa8255", 52, 73, 8), Soc("qcs9100", 77, 73, 8),
    Soc("ssg2115p", 46, 73, 2), Soc("ssg2125p", 58, 73, 2), Soc("sxr1230p", 45, 73, 2), Soc("sc8380xp", 60, 73, 8),
    Soc("sm8735", 85, 79, 0), Soc("sm8750", 69, 79, 8), Soc("sxr2330p", 75, 79, 8), Soc("sm8850", 87, 81, 8),
    Soc("sm8845", 97, 81, 8), Soc("sar2230p", 95, 81, 4), Soc("sw6100", 96, 81, 4), Soc("sa8797", 72, 81, 16),
)  # fmt: skip

SOCS = MappingProxyType({soc.name: soc for soc in _TABLE})
"""By name, the default first."""
ARCHES = MappingProxyType(
    {"v68": "sm8350", "v69": "sm8450", "v73": "sm8550", "v75": "sm8650", "v79": "sm8750", "v81": "sm8850"}
)
"""For whom an architecture is enough: a chip of each."""


def parse(variant: str) -> tuple[Soc, ...]:
    """The chips of "sm8550,sm8650", names, numbers or architectures; the default one for "".

    Raises:
        UsageError: an unknown or repeated one; the message lists the known ones.
    """
    if not variant:
        return (next(iter(SOCS.values())),)
    numbers = {str(soc.number): soc for soc in SOCS.values()}
    found: list[Soc] = []
    for part in variant.lower().split(","):
        soc = SOCS.get(ARCHES.get(part, part)) or numbers.get(part)
        if soc is None:
            known = ", ".join(f"{soc.name} ({soc.number})" for soc in SOCS.values())
            raise UsageError(f"target 'qnn' knows no chip {part!r}", hint=f"known: {known}; or {', '.join(ARCHES)}")
        if soc in found:
            raise UsageError(f"target 'qnn': chip {soc.name!r} is given twice", where="--target")
        found.append(soc)
    return tuple(found)
