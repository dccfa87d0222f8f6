"""Kullback-Leibler divergence of two sets of class scores, in nats.

    KL(p || q) = sum_i p_i (log p_i - log q_i)        summed over rows; p from the reference, q from the other

Scores that are not negative and sum to 1 are probabilities, all others go through softmax. Logarithms are bounded below
by that of the smallest normal float32, so that a probability of 0 gives a large number, not infinity.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from qcompiler.errors import InternalError

F64 = npt.NDArray[np.float64]

_LEAST = float(np.log(np.finfo(np.float32).tiny))
_SUM = 1e-3


def divergence(reference: npt.ArrayLike, got: npt.ArrayLike) -> tuple[float, int]:
    """The divergence of all rows together, and how many rows there are; the last axis holds the classes.

    Where a score is not finite, the divergence is infinite.
    """
    wanted, found = np.asarray(reference, np.float64), np.asarray(got, np.float64)
    if wanted.shape != found.shape or not wanted.ndim:
        raise InternalError(f"compared scores of shape {found.shape} with scores of shape {wanted.shape}")
    rows = wanted.size // max(wanted.shape[-1], 1)
    if not (np.isfinite(wanted).all() and np.isfinite(found).all()):
        return np.inf, rows
    likely = _probabilities(wanted)
    log_p, log_q = _logarithms(wanted, likely), _logarithms(found, likely)
    terms = np.exp(log_p) * (log_p - log_q)
    return max(float(terms.sum()), 0.0), rows


def _probabilities(scores: F64) -> bool:
    """Whether the rows are probabilities already."""
    return bool((scores >= 0).all() and (np.abs(scores.sum(axis=-1) - 1) < _SUM).all())


def _logarithms(scores: F64, likely: bool) -> F64:
    if likely:
        return np.asarray(np.log(np.maximum(scores, np.exp(_LEAST))))
    shifted = scores - scores.max(axis=-1, keepdims=True)
    return np.asarray(np.maximum(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)), _LEAST))
