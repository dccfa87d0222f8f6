"""What a chip cannot do, decided here: the emulator takes it without a word.

v68 computes no floating point; the emulator does, in float32. v69 shows float16 in the emulator and is not known to
have it on chips. docs: QNN fact sheet, section 2.1.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from qcompiler.backends.qnn.socs import FLOAT16, FLOAT16_SURE, Soc
from qcompiler.pipeline import some
from qcompiler.quant import QuantPlan
from qcompiler.quant.qtype import UINT16

EXAMPLES = 5
BYTE = 8


def failures(socs: Sequence[Soc], islands: Iterable[str]) -> list[str]:
    """Why the gate fails for some chips, given the nodes that compute in floating point."""
    names = list(islands)
    return [
        f"{soc.name} (v{soc.arch}) has no floating point, which {shown(names)} would need; the emulator hides this"
        for soc in socs
        if names and soc.arch < FLOAT16
    ]


def shifted(plan: QuantPlan) -> list[str]:
    """Why the gate fails for weights that the model came with: with 16-bit activations a zero point costs 25 dB."""
    wide = any(decision.choice.qtype is UINT16 for _, decision in plan.quantized() if decision.choice is not None)
    names = [
        site.tensor
        for site, decision in plan.quantized()
        if wide and decision.choice is not None and decision.choice.symmetric and decision.choice.qtype.bits <= BYTE
        if decision.encoding is not None and decision.encoding.zero_point.any()
    ]
    said = "weights with a zero point lose precision beside 16-bit activations"
    return [f"{said}, and the model came with some: {shown(names)} (rule 5; use w8a8)"] if names else []


def notes(socs: Sequence[Soc], islands: Iterable[str]) -> list[str]:
    """What a reader should know of the chips."""
    names = list(islands)
    return [
        f"{soc.name} (v{soc.arch}): float16 works in the emulator and is not confirmed on chips before v{FLOAT16_SURE}"
        for soc in socs
        if names and FLOAT16 <= soc.arch < FLOAT16_SURE
    ]


def shown(names: Sequence[str]) -> str:
    """Some names, and how many others."""
    return some(list(map(repr, names)), EXAMPLES)
