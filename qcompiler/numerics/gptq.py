"""Rounding a weight matrix so that its products change least, given H = sum x x^T of its inputs.

The proxy loss of W (rows, K) rounded to Q is tr((W - Q) H (W - Q)^T): the squared error of all outputs. Columns are
rounded one after the other; with U upper triangular, U^T U = inverse of (H + damping), the error of column j

    e = (w_j - q_j) / U_jj        w_i -= e U_ji for all later i

is taken back by the columns that are still free: within a panel when a column's turn comes, behind it in one product.
The matrix is turned meanwhile, so that columns lie in a row. Scales are fixed beforehand, so columns may go in any
order: those with the largest H_jj first. Inputs that are never seen (H_jj = 0) come last and round to nearest.

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
I64 = npt.NDArray[np.int64]

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
    return float(np.vdot(e @ hessian.astype(np.float64, copy=False), e))


def cholesky(hessian: F64, damping: float = DAMPING, order: I64 | None = None) -> tuple[F64, float]:
    """Lower triangular L with L L^T = H + d mean(diag H) I, and the d that it took; one matrix besides H is made.

    Args:
        hessian: symmetric; only finite numbers.
        damping: the least d.
        order: of rows and columns; inputs that are never seen (H_jj = 0) then count as the mean.

    Raises:
        DataError: H is not finite, or has no factor.
    """
    diagonal = np.diag(hessian)
    if not np.isfinite(hessian).all():
        raise DataError("the second moments of a layer's inputs are not finite", hint="look for infinity in the data")
    mean = float(np.mean(diagonal)) or 1.0
    if order is not None:
        diagonal = np.where(diagonal <= 0, mean, diagonal)[order]
        mean = float(np.mean(diagonal))
    while damping <= MOST_DAMPING:
        damped = np.array(hessian) if order is None else hessian[np.ix_(order, order)]
        np.fill_diagonal(damped, diagonal + damping * mean)
        try:
            # symmetric, so that it may be read the other way round, which is LAPACK's
            return linalg.cholesky(damped.T, lower=True, overwrite_a=True, check_finite=False), damping
        except linalg.LinAlgError:
            damping *= 10
    raise DataError("the second moments of a layer's inputs have no Cholesky factor", hint="is the data all zeros?")


def correction(second: F64, lost: F64, damping: float = DAMPING) -> F64:
    """A (K, K), such that W + W A gives with inputs y what W gives with x, as nearly as any matrix does.

    Least squares over all rows, W x ~ (W + W A) y: A = D H^-1, where H = sum y y^T and D = sum (x - y) y^T, H damped.
    What was lost in front of a layer, for which y differs from x, is so made good in part. A takes the memory of D.

    Source: Li et al., "GPTAQ: Efficient Finetuning-Free Quantization for Asymmetric Calibration" (2025).
    """
    lower, _ = cholesky(second, damping)
    turned = np.ascontiguousarray(lost).T
    return np.asarray(linalg.cho_solve((lower, True), turned, overwrite_b=True, check_finite=False).T)


class Factored(NamedTuple):
    """What `gptq` makes of H, for any number of rows.

    Attributes:
        order: of the columns.
        upper: U with U^T U = (H + damping)^-1, columns and rows in that order.
        damping: see `cholesky`.
    """

    order: I64
    upper: F64
    damping: float

    @staticmethod
    def of(hessian: npt.NDArray[np.floating], damping: float = DAMPING) -> Factored:
        """With P the reversal of order, L L^T = P (H + damping) P gives U = (P L P)^-1 = P L^-1 P.

        Errors as for `cholesky`.
        """
        h = hessian.astype(np.float64, copy=False)
        order = np.argsort(-np.maximum(np.diag(h), 0), kind="stable")
        lower, used = cholesky(h, damping, order[::-1])
        inverse, _ = linalg.lapack.dtrtri(lower, lower=1, overwrite_c=1)
        return Factored(order, np.ascontiguousarray(inverse[::-1, ::-1]), used)


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
    left = weight.T[order].astype(np.float64)
    codes = np.empty(left.shape, np.int32)
    for start in range(0, k, PANEL):
        end = min(start + PANEL, k)
        errors = np.empty((end - start, len(weight)))
        for j in range(start, end):
            wanted = left[j] - upper[start:j, j] @ errors[: j - start]
            codes[order[j]], value = grid.column(wanted.astype(np.float32), int(order[j]))
            errors[j - start] = (wanted - value) / upper[j, j]
        left[end:] -= upper[start:end, end:].T @ errors
    found = np.ascontiguousarray(codes.T)
    nearest = grid.codes(weight)
    loss, plain = (proxy_loss(weight - grid.values(c), hessian) for c in (found, nearest))
    return Rounded(found, loss, used) if loss < plain else Rounded(nearest, plain, used)
