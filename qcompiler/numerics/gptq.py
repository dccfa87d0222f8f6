"""Rounding a weight matrix so that its products change least, given H = sum x x^T of its inputs.

The proxy loss of W (rows, K) rounded to Q is tr((W - Q) H (W - Q)^T): the squared error of all outputs. Columns are
rounded one after the other; with U upper triangular, U^T U = inverse of (H + damping), the error of column j

    e = (w_j - q_j) / U_jj        w_i -= e U_ji for all later i

is taken back by the columns that are still free. Errors within a panel of columns are kept apart and applied to the
rest in one product. Scales are fixed beforehand, so columns may go in any order: those with the largest H_jj first.
Inputs that are never seen (H_jj = 0) come last and round to nearest.

`gptq` never returns a larger proxy loss than rounding to nearest with the grid that it was given: where greedy
correction loses, the nearest codes are returned. A singular H gets more damping until its Cholesky factor exists;
what was used is returned.

Source: Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers" (2023).
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from scipy import linalg

from qcompiler.errors import DataError

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I32 = npt.NDArray[np.int32]

PANEL = 128
DAMPING = 0.01
MOST_DAMPING = 1e6


class Grid(Protocol):
    """What a matrix (rows, K) is rounded to: the grid of each value is fixed."""

    def column(self, x: F32, place: int, /) -> tuple[I32, F32]:
        """The nearest codes of values that stand in column `place`, and what they stand for."""

    def codes(self, weight: F32, /) -> I32:
        """The nearest code of each value."""

    def values(self, codes: I32, /) -> F32:
        """What codes stand for."""


class Rounded(NamedTuple):
    """The result.

    Attributes:
        codes: (rows, K).
        loss: proxy loss.
        damping: what was added to the diagonal of H, as a fraction of its mean.
    """

    codes: I32
    loss: float
    damping: float


def proxy_loss(error: npt.NDArray[np.floating], hessian: npt.NDArray[np.floating]) -> float:
    """tr(E H E^T), accumulated in float64."""
    e = error.astype(np.float64)
    return float(np.vdot(e @ hessian.astype(np.float64), e))


def factor(hessian: F64, damping: float = DAMPING) -> tuple[F64, float]:
    """Upper triangular U with U^T U = (H + d mean(diag H) I)^-1, and the d that it took.

    Raises:
        DataError: H is not finite.
    """
    if not np.isfinite(hessian).all():
        raise DataError("the second moments of a layer's inputs are not finite", hint="look for infinity in the data")
    mean = float(np.mean(np.diag(hessian))) or 1.0
    while damping <= MOST_DAMPING:
        damped = hessian + damping * mean * np.eye(len(hessian))
        try:
            lower = linalg.cholesky(damped, lower=True)
            inverse = linalg.cho_solve((lower, True), np.eye(len(hessian)))
            return np.asarray(linalg.cholesky((inverse + inverse.T) / 2)), damping
        except linalg.LinAlgError:
            damping *= 10
    raise DataError("the second moments of a layer's inputs have no Cholesky factor", hint="is the data all zeros?")


def correction(second: F64, cross: F64, damping: float = DAMPING) -> F64:
    """A (K, K), such that W + W A gives with inputs y what W gives with x, as nearly as any matrix does.

    Least squares over all rows, W x ~ (W + W A) y: A = (C - H) H^-1, where H = sum y y^T and C = sum x y^T, H damped.
    What was lost in front of a layer, for which y differs from x, is so made good in part.

    Source: Li et al., "GPTAQ: Efficient Finetuning-Free Quantization for Asymmetric Calibration" (2025).
    """
    upper, _ = factor(second, damping)
    return np.asarray((cross - second) @ (upper.T @ upper))


class Factored(NamedTuple):
    """What `gptq` makes of H, for any number of rows.

    Attributes:
        order: of the columns.
        upper: see `factor`, columns and rows in that order.
        damping: see `factor`.
    """

    order: npt.NDArray[np.int64]
    upper: F64
    damping: float

    @staticmethod
    def of(hessian: npt.NDArray[np.floating], damping: float = DAMPING) -> Factored:
        """Errors as for `factor`."""
        h = np.array(hessian, np.float64)
        dead = np.diag(h) <= 0
        h[dead, dead] = float(np.mean(np.diag(h))) or 1.0
        order = np.argsort(-np.where(dead, 0, np.diag(hessian)), kind="stable")
        return Factored(order, *factor(h[np.ix_(order, order)], damping))


def gptq(
    weight: F32,
    hessian: npt.NDArray[np.floating],
    grid: Grid,
    *,
    damping: float = DAMPING,
    factored: Factored | None = None,
) -> Rounded:
    """Codes of a matrix on a given grid.

    Args:
        weight: (rows, K).
        hessian: (K, K), sum of x x^T.
        grid: stays as it is.
        damping: the least to add to the diagonal of H, as a fraction of its mean.
        factored: of the same H and damping, where it is known.
    """
    k = len(hessian)
    order, upper, used = factored or Factored.of(hessian, damping)
    left = weight[:, order].astype(np.float64)
    codes = np.empty(weight.shape, np.int32)
    for start in range(0, k, PANEL):
        end = min(start + PANEL, k)
        errors = np.empty((len(weight), end - start))
        for j in range(start, end):
            codes[:, j], value = grid.column(left[:, j].astype(np.float32), int(order[j]))
            errors[:, j - start] = (left[:, j] - value) / upper[j, j]
            left[:, j + 1 : end] -= np.outer(errors[:, j - start], upper[j, j + 1 : end])
        left[:, end:] -= errors @ upper[start:end, end:]
    found = np.empty_like(codes)
    found[:, order] = codes
    nearest = grid.codes(weight)
    loss, plain = (proxy_loss(weight - grid.values(c), hessian) for c in (found, nearest))
    return Rounded(found, loss, used) if loss < plain else Rounded(nearest, plain, used)
