"""Sensitivities that are wrong on purpose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from qcompiler.numerics import SqnrMeter
from qcompiler.search.damage import Damage
from qcompiler.search.sensitivity import Sensitivity


def corrupted(found: Sequence[Sensitivity], factors: Sequence[float]) -> tuple[Sensitivity, ...]:
    """The same with every noise times a factor: to see that nothing but cost depends on them."""
    return tuple(
        replace(one, alone=Damage({n: SqnrMeter(m.signal, m.noise * f, m.count) for n, m in one.alone.outputs.items()}))
        for one, f in zip(found, factors, strict=True)
    )
