"""Normalisations and reductions."""

from __future__ import annotations

from typing import Any

import numpy as np

from qcompiler.backends.coreml.evaluate.table import COMPUTES, Array, computes, ints


def channels(v: Array, x: Array) -> Array:
    """Values by channel, shaped to broadcast."""
    return v.reshape(-1, *[1] * (x.ndim - 2))


@computes("batch_norm")
def batch_norm(x: Array, mean: Array, variance: Array, epsilon: Any, gamma: Any = None, beta: Any = None) -> Array:
    """(x - mean) / sqrt(variance + epsilon) * gamma + beta"""
    found = (x - channels(mean, x)) / np.sqrt(channels(variance, x) + np.float32(epsilon))
    found = found if gamma is None else found * channels(gamma, x)
    return found if beta is None else found + channels(beta, x)


def standardised(x: Array, axes: tuple[int, ...], epsilon: Any) -> Array:
    """x of mean 0 and variance 1 along axes."""
    centred = x - x.mean(axis=axes, keepdims=True)
    return centred / np.sqrt(np.square(centred).mean(axis=axes, keepdims=True) + np.float32(epsilon))


@computes("layer_norm")
def layer_norm(x: Array, axes: Any, epsilon: Any, gamma: Any = None, beta: Any = None) -> Array:
    """Along the last axes."""
    found = standardised(x, ints(axes), epsilon)
    found = found if gamma is None else found * gamma
    return found if beta is None else found + beta


@computes("instance_norm")
def instance_norm(x: Array, epsilon: Any, gamma: Any = None, beta: Any = None) -> Array:
    """Along the spatial axes."""
    found = standardised(x, tuple(range(2, x.ndim)), epsilon)
    found = found if gamma is None else found * channels(gamma, x)
    return found if beta is None else found + channels(beta, x)


@computes("l2_norm")
def l2_norm(x: Array, epsilon: Any) -> Array:
    """x / sqrt(sum of squares along the last three axes + epsilon)"""
    axes = tuple(range(max(x.ndim - 3, 0), x.ndim))
    return x / np.sqrt(np.square(x).sum(axis=axes, keepdims=True) + np.float32(epsilon))


@computes("local_response_norm")
def local_response_norm(x: Array, size: Any, alpha: Any, beta: Any, k: Any) -> Array:
    """x / (k + alpha / size * sum of squares of neighbouring channels) ^ beta"""
    n = int(size)
    before = (n - 1) // 2
    squares = np.pad(np.square(x), [(0, 0), (before, n - 1 - before), *[(0, 0)] * (x.ndim - 2)])
    total = sum(squares[:, i : i + x.shape[1]] for i in range(n))
    return x / (np.float32(k) + np.float32(alpha) / n * total) ** np.float32(beta)


def _log_sum_exp(x: Array, axis: tuple[int, ...], keepdims: bool) -> Array:
    top = x.max(axis=axis, keepdims=True)
    top = np.where(np.isfinite(top), top, 0)
    found = np.log(np.exp(x - top).sum(axis=axis, keepdims=True)) + top
    return found if keepdims else np.squeeze(found, axis)


REDUCE: dict[str, Any] = {
    "reduce_sum": lambda x, a, k: x.sum(axis=a, keepdims=k, dtype=x.dtype),
    "reduce_mean": lambda x, a, k: x.mean(axis=a, keepdims=k),
    "reduce_max": lambda x, a, k: x.max(axis=a, keepdims=k),
    "reduce_min": lambda x, a, k: x.min(axis=a, keepdims=k),
    "reduce_prod": lambda x, a, k: x.prod(axis=a, keepdims=k, dtype=x.dtype),
    "reduce_l1_norm": lambda x, a, k: np.abs(x).sum(axis=a, keepdims=k, dtype=x.dtype),
    "reduce_l2_norm": lambda x, a, k: np.sqrt(np.square(x).sum(axis=a, keepdims=k)),
    "reduce_log_sum": lambda x, a, k: np.log(x.sum(axis=a, keepdims=k)),
    "reduce_log_sum_exp": _log_sum_exp,
    "reduce_sum_square": lambda x, a, k: np.square(x).sum(axis=a, keepdims=k, dtype=x.dtype),
}


def _entered(function: Any) -> Any:
    def reduce(x: Array, keep_dims: Any = False, axes: Any = None) -> Array:
        return np.asarray(function(x, tuple(range(x.ndim)) if axes is None else ints(axes), bool(keep_dims)))

    return reduce


for _name, _function in REDUCE.items():
    COMPUTES[_name] = _entered(_function)


@computes("reduce_argmax")
def reduce_argmax(x: Array, axis: Any, keep_dims: Any = False) -> Array:
    """The first of the largest."""
    return np.asarray(x.argmax(axis=int(axis), keepdims=bool(keep_dims)))


@computes("reduce_argmin")
def reduce_argmin(x: Array, axis: Any, keep_dims: Any = False) -> Array:
    """The first of the smallest."""
    return np.asarray(x.argmin(axis=int(axis), keepdims=bool(keep_dims)))
