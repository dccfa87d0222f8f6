"""Scales of input channels that make the rounded weights of some layers lose least, to be folded into what feeds them.

    x W^T = (x / s) (W s)^T              exact; rounding W s protects the channels with large s
    s_j = (mean of x_j^2)^(a / 2)        normalised; a from 0 (no change) to 1, chosen by the loss

The loss is that of all outputs of all layers that read x, tr((W - Q / s) H (W - Q / s)^T) with H = sum x x^T: it needs
the second moments only, not the inputs. Layers count by their outputs, as they
stand.

Source: Lin et al., "AWQ: Activation-aware Weight Quantization for LLM Compression and Acceleration" (2024), section
3.2; mean |x| there, the root of mean x^2 here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from qcompiler.numerics.gptq import proxy_loss

F32 = npt.NDArray[np.float32]

ALPHAS = tuple(np.linspace(0.0, 0.9, 10).tolist())
CLEARLY = 0.02
"""A change must gain this share of the loss."""


def channel_scales(hessian: npt.NDArray[np.floating], alpha: float) -> F32:
    """s for one alpha, its largest and smallest value the inverse of each other."""
    power = np.sqrt(np.maximum(np.diag(hessian), 0))
    power = np.maximum(power, 1e-4 * float(power.max(initial=0)) or 1.0)
    s = (power / power.max()) ** alpha
    return np.asarray(s / np.sqrt(s.max() * s.min()), np.float32)


def search(
    weights: Sequence[F32],
    hessian: npt.NDArray[np.floating],
    rounded: Callable[[F32, npt.NDArray[np.floating]], F32],
) -> tuple[F32, float, float]:
    """The best scales.

    Args:
        weights: of the layers that read x, (rows, K) each.
        hessian: (K, K), sum of x x^T.
        rounded: the weights as the target stores them, given what they are and the second moments of their inputs.

    Returns:
        s, the loss with it, and the loss without; s is all ones where nothing gains clearly.
    """
    ones = np.ones(len(hessian), np.float32)
    best = (ones, plain := _loss(weights, hessian, ones, rounded))
    for alpha in ALPHAS[1:]:
        s = channel_scales(hessian, alpha)
        loss = _loss(weights, hessian, s, rounded)
        if loss < best[1]:
            best = s, loss
    if best[1] > (1 - CLEARLY) * plain:
        return ones, plain, plain
    return (*best, plain)


def scaled_moments(hessian: npt.NDArray[np.floating], s: F32) -> npt.NDArray[np.float64]:
    """The second moments of x / s."""
    inverse = 1 / s.astype(np.float64)
    found = np.asarray(hessian * inverse[:, None])
    found *= inverse[None, :]
    return found


def _loss(
    weights: Sequence[F32],
    hessian: npt.NDArray[np.floating],
    s: F32,
    rounded: Callable[[F32, npt.NDArray[np.floating]], F32],
) -> float:
    h = scaled_moments(hessian, s)
    return sum(proxy_loss(w * s - rounded(w * s, h), h) for w in weights)
