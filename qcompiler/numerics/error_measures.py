"""How far a quantized result is from the float one: signal-to-noise ratio, and agreement of decisions.

    SQNR      = 10 log10( sum reference**2 / sum (reference - got)**2 )  dB
    agreement = share of rows whose largest score is in the same place

Both are immutable values with `update` and `merge`, as observers are. Sums are float64 in a fixed order; SQNR is exact
up to rounding, whatever the split.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qcompiler.errors import InternalError
from qcompiler.numerics.paired import Drop, drop_interval

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


@dataclass(frozen=True, slots=True)
class AgreementMeter:
    """Decisions of two classifiers on the same rows: the largest score along the last axis.

    The first of equal scores decides. A row of `got` with NaN agrees with nothing and is never right.

    Attributes:
        total, agreed: rows seen, rows with the same decision.
        both, lost, gained, neither: labelled rows that both got right, only the reference, only `got`, none.
    """

    total: int = 0
    agreed: int = 0
    both: int = 0
    lost: int = 0
    gained: int = 0
    neither: int = 0

    def update(
        self, reference: npt.ArrayLike, got: npt.ArrayLike, labels: npt.ArrayLike | None = None
    ) -> AgreementMeter:
        """Add scores of shape (..., classes), with integer labels of shape (...) if there are any."""
        wanted, found = np.asarray(reference), np.asarray(got)
        if wanted.shape != found.shape or wanted.ndim == 0:
            raise InternalError(f"compared scores of shape {found.shape} with scores of shape {wanted.shape}")
        first, second = wanted.argmax(-1).reshape(-1), found.argmax(-1).reshape(-1)
        second[np.isnan(found).any(-1).reshape(-1)] = -1
        seen = AgreementMeter(total=first.size, agreed=int(np.count_nonzero(first == second)))
        if labels is not None:
            truth = np.asarray(labels).reshape(-1)
            if truth.size != first.size:
                raise InternalError(f"{truth.size} labels for {first.size} rows of scores")
            right, still = first == truth, second == truth
            cells = (right & still, right & ~still, ~right & still, ~right & ~still)
            seen = AgreementMeter(seen.total, seen.agreed, *(int(np.count_nonzero(cell)) for cell in cells))
        return self.merge(seen)

    def merge(self, other: AgreementMeter) -> AgreementMeter:
        """The meter of both sets of rows."""
        return AgreementMeter(
            self.total + other.total,
            self.agreed + other.agreed,
            self.both + other.both,
            self.lost + other.lost,
            self.gained + other.gained,
            self.neither + other.neither,
        )

    @property
    def labelled(self) -> int:
        """Rows that came with a label."""
        return self.both + self.lost + self.gained + self.neither

    @property
    def agreement(self) -> float:
        """Share of rows with the same decision; NaN before the first row."""
        return self.agreed / self.total if self.total else math.nan

    @property
    def reference_accuracy(self) -> float:
        """Top-1 accuracy of the reference on the labelled rows; NaN without any."""
        return (self.both + self.lost) / self.labelled if self.labelled else math.nan

    @property
    def accuracy(self) -> float:
        """Top-1 accuracy of `got` on the labelled rows; NaN without any."""
        return (self.both + self.gained) / self.labelled if self.labelled else math.nan

    def drop(self, confidence: float = 0.95) -> Drop:
        """Loss of top-1 accuracy with its interval (`paired.drop_interval`)."""
        return drop_interval(self.lost, self.gained, self.labelled, confidence)
