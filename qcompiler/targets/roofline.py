"""A processor by two numbers: how fast it multiplies in each type, and how fast it moves bytes.

    seconds = max(MACs / rate(precision), bytes / bandwidth) + overhead

A model, not a measurement: what is computed together, cached or laid out anew is not in it. It ranks the parts of one
network in one precision against another, no more. Source: Williams, Waterman, Patterson, "Roofline: An Insightful
Visual Performance Model for Multicore Architectures", CACM 52(4), 2009.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from qcompiler.quant import Precision


@dataclass(frozen=True)
class Roofline:
    """One processor.

    Attributes:
        rates: multiply-accumulates a second by precision; "float" is what the rest of the graph computes in.
        bandwidth: bytes a second between processor and memory.
        bits: of an activation by precision, for the bytes that pass.
        source: where the numbers come from.
        overhead: seconds that any operator takes.
    """

    rates: Mapping[Precision, float]
    bandwidth: float
    bits: Mapping[Precision, int]
    source: str
    overhead: float = 0.0

    def seconds(self, precision: Precision, macs: int, activations: int, weights: int, weight_bits: int) -> float:
        """The time of an operator.

        Args:
            precision: that it computes in; one without a rate has that of float.
            macs: multiply-accumulates.
            activations: values that it reads and writes.
            weights: values of constants that it reads, each of `weight_bits`.
        """
        rate = self.rates.get(precision, self.rates["float"])
        moved = (activations * self.bits.get(precision, self.bits["float"]) + weights * weight_bits) / 8
        return max(macs / rate, moved / self.bandwidth) + self.overhead

    def conversion(self) -> float:
        """Seconds to convert one value between float and quantized: it is read once and written once."""
        return (self.bits["float"] + min(self.bits.values())) / 8 / self.bandwidth
