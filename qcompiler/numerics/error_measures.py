"""How far a quantized result is from the float one: the signal-to-noise ratio.

    SQNR = 10 log10( sum reference**2 / sum (reference - got)**2 )  dB

An immutable value with `update` and `merge`, as observers are. Sums are float64 in a fixed order; SQNR is exact
up to rounding, whatever the split.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qcompiler.errors import InternalError

F64 = npt.NDArray[np.float64]

_CHUNK = 1 << 18


@dataclass(frozen=True, slots=True)
class SqnrMeter:
    """Signal and noise of every value compared so far.

    Where the reference is not finite (masked scores, say) nothing is counted. NaN or infinity where the reference is
    finite, and NaN where it is infinite, are a total loss: infinite noise.

    Attributes:
        signal: sum of squares of the reference.
        noise: sum of squared differences; inf after a total loss.
        count: values compared.
    """

    signal: float = 0.0
    noise: float = 0.0
    count: int = 0

    def update(self, reference: npt.ArrayLike, got: npt.ArrayLike) -> SqnrMeter:
        """Add two real arrays of one shape."""
        wanted, found = np.asarray(reference), np.asarray(got)
        if wanted.shape != found.shape:
            raise InternalError(f"compared an array of shape {found.shape} with one of shape {wanted.shape}")
        total = self
        flat_wanted, flat_found = wanted.reshape(-1), found.reshape(-1)
        for start in range(0, flat_wanted.size, _CHUNK):
            part = slice(start, start + _CHUNK)
            total = total.merge(_compare(flat_wanted[part].astype(np.float64), flat_found[part].astype(np.float64)))
        return total

    def merge(self, other: SqnrMeter) -> SqnrMeter:
        """The meter of both sets of values."""
        return SqnrMeter(self.signal + other.signal, self.noise + other.noise, self.count + other.count)

    @property
    def db(self) -> float:
        """SQNR in dB: inf if all is equal (or nothing was compared), -inf for noise without signal or a total loss."""
        if self.noise == 0:
            return math.inf
        if self.signal == 0 or math.isinf(self.noise):
            return -math.inf
        return 10 * (math.log10(self.signal) - math.log10(self.noise))


def _compare(wanted: F64, found: F64) -> SqnrMeter:
    with np.errstate(invalid="ignore", over="ignore"):
        noise = float(np.square(wanted - found).sum())
        signal = float(np.square(wanted).sum())
    if math.isfinite(noise) and math.isfinite(signal):
        return SqnrMeter(signal, noise, wanted.size)
    finite = np.isfinite(wanted)
    lost = bool((np.isnan(found) & ~np.isnan(wanted)).any() or np.isinf(found[finite]).any())
    noise = math.inf if lost else float(np.square(wanted[finite] - found[finite]).sum())
    return SqnrMeter(float(np.square(wanted[finite]).sum()), noise, int(np.count_nonzero(finite)))
