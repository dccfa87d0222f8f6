"""Mean and deviation of f(X) for a normal X, channel by channel.

    E[Clip(X; a, b)]   = a P(A) + b (1 - P(B)) + m (P(B) - P(A)) + s (p(A) - p(B))
    E[Clip(X; a, b)^2] = a^2 P(A) + b^2 (1 - P(B)) + (m^2 + s^2) (P(B) - P(A)) + s ((m + a) p(A) - (m + b) p(B))

where X ~ N(m, s^2), A = (a - m) / s, B = (b - m) / s,
with p and P the density and distribution of the standard normal. Relu is Clip(X; 0, inf). For other f the mean over
equally likely points.

Source: Nagel, van Baalen, Blankevoort, Welling, "Data-free quantization through weight equalization and bias
correction" (ICCV 2019), section 4.2.1 and appendix C: the clipped normal distribution.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri

F64 = npt.NDArray[np.float64]

POINTS = ndtri((np.arange(512) + 0.5) / 512)


@dataclass(frozen=True, eq=False)
class Moments:
    """Of each channel.

    Attributes:
        mean: E[X].
        deviation: the root of E[X^2] - E[X]^2.
    """

    mean: F64
    deviation: F64

    def clipped(self, low: float, high: float) -> Moments:
        """Of Clip(X; low, high); the bounds may be infinite."""
        m, s = self.mean, np.maximum(self.deviation, 1e-12)
        first, last = (low - m) / s, (high - m) / s
        below, above, inside = ndtr(first), ndtr(-last), ndtr(last) - ndtr(first)
        mean = m * inside + s * (density(first) - density(last))
        square = (m * m + s * s) * inside
        if math.isfinite(low):
            mean, square = mean + low * below, square + low * low * below + s * (m + low) * density(first)
        if math.isfinite(high):
            mean, square = mean + high * above, square + high * high * above - s * (m + high) * density(last)
        return Moments(mean, np.sqrt(np.maximum(square - mean * mean, 0.0)))

    def through(self, function: Callable[[F64], F64]) -> Moments:
        """Of f(X) for a smooth f."""
        values = function(self.mean[:, None] + self.deviation[:, None] * POINTS)
        return Moments(values.mean(axis=1), values.std(axis=1))

    def plus(self, other: Moments) -> Moments:
        """Of a sum of two that know nothing of each other."""
        return Moments(self.mean + other.mean, np.hypot(self.deviation, other.deviation))


def density(values: F64) -> F64:
    """Of the standard normal."""
    found: F64 = np.exp(-0.5 * np.square(values)) / math.sqrt(2 * math.pi)
    return found
