"""Normalisations."""

from __future__ import annotations

import numpy as np

from qcompiler.backends.coreml.lower.scope import Refused, Scope, Var, type_of
from qcompiler.backends.coreml.lower.table import lowers

SMALLEST_HALF = 6.2e-5
"""Below the smallest normal float16 an epsilon is lost or flushed."""


def epsilon(s: Scope, value: float, x: Var) -> np.generic:
    """An epsilon that survives float16: 1e-12 would become 0 there."""
    floor = 1.2e-7 if s.program.half or type_of(x) == "fp16" else 0.0
    return s.scalar(max(float(value), floor), x)  # type: ignore[no-any-return]


@lowers("BatchNormalization", to="batch_norm", limits="training mode, parameters that are computed")
def batch_norm(s: Scope) -> Var:
    """(x - mean) / sqrt(variance + epsilon) * gamma + beta"""
    if s.attr("training_mode", 0):
        raise Refused("it is in training mode")
    gamma, beta, mean, variance = (s.need(port, "a parameter") for port in (1, 2, 3, 4))
    x, eps = s.x(), np.float32(s.attr("epsilon", 1e-5))
    if s.rank() in (3, 4, 5):
        return s.op("batch_norm", x=x, mean=mean, variance=variance, gamma=gamma, beta=beta, epsilon=s.scalar(eps, x))
    scale = gamma / np.sqrt(variance + eps)
    form = [1, -1, *[1] * (s.rank() - 2)] if s.rank() > 1 else [-1]
    moved = s.op("mul", x=x, y=s.constant(scale.reshape(form)))
    return s.op("add", x=moved, y=s.constant((beta - mean * scale).reshape(form)))


@lowers("LayerNormalization", to="layer_norm", limits="mean and deviation as results")
def layer_norm(s: Scope) -> Var:
    """Over the axes from `axis` on."""
    if any(tensor.name and tensor.outputs for tensor in s.node.outputs[1:]):
        raise Refused("mean or deviation is a result that is read")
    x, axis = s.x(), s.axis(s.attr("axis", -1))
    axes, eps = list(range(axis, s.rank())), epsilon(s, s.attr("epsilon", 1e-5), x)
    gamma, beta = s.known(1), s.known(2)
    computed = gamma is None or (s.has(2) and beta is None)
    dims = [x.shape[a] for a in axes]
    fits = not computed and all(isinstance(d, int | np.integer) for d in dims)
    if fits:
        shape = [int(d) for d in dims]
        wide = [None if v is None else np.broadcast_to(v, shape).copy() for v in (gamma, beta)]
        return s.op("layer_norm", x=x, axes=axes, gamma=wide[0], beta=wide[1], epsilon=eps)
    found = s.op("layer_norm", x=x, axes=axes, epsilon=eps)
    found = s.op("mul", x=found, y=s.x(1))
    return s.op("add", x=found, y=s.x(2)) if s.has(2) else found


@lowers("SkipLayerNormalization", to="add, layer_norm", domain="com.microsoft", limits="mean and deviation as results")
def skip_layer_norm(s: Scope) -> list[Var | None]:
    """layer_norm(x + skip + bias)"""
    x = s.op("add", x=s.x(0), y=s.x(1))
    x = s.op("add", x=x, y=s.x(4)) if s.has(4) else x
    gamma, beta = s.need(2, "gamma"), s.known(3)
    eps = epsilon(s, s.attr("epsilon", 1e-12), x)
    found = s.op("layer_norm", x=x, axes=[int(x.rank) - 1], gamma=gamma, beta=beta, epsilon=eps)
    return [found, None, None, x][: len(s.node.outputs)]


@lowers("RMSNormalization", to="reduce_mean, rsqrt, mul")
@lowers("SimplifiedLayerNormalization", to="reduce_mean, rsqrt, mul", domain="com.microsoft")
def rms_norm(s: Scope) -> Var:
    """x / sqrt(mean(x^2) + epsilon) * gamma

    In float16 x is divided by its largest magnitude first, since x^2 leaves float16 at |x| = 256:
    x / m / sqrt(mean((x / m)^2) + epsilon / m^2), m constant along the axes.
    """
    x = s.x()
    axes = list(range(s.axis(s.attr("axis", -1)), s.rank()))
    eps = float(s.attr("epsilon", 1e-5))
    if s.program.half or type_of(x) == "fp16":
        peak = s.op("reduce_max", x=s.op("abs", x=x), axes=axes, keep_dims=True)
        peak = s.op("maximum", x=peak, y=s.scalar(1, x))
        x = s.op("real_div", x=x, y=peak)
        mean = s.op("reduce_mean", x=s.op("mul", x=x, y=x), axes=axes, keep_dims=True)
        root = s.op("real_div", x=s.scalar(np.sqrt(eps), x), y=peak)
        mean = s.op("add", x=mean, y=s.op("mul", x=root, y=root))
    else:
        mean = s.op("reduce_mean", x=s.op("mul", x=x, y=x), axes=axes, keep_dims=True)
        mean = s.op("add", x=mean, y=s.scalar(eps, x))
    found = s.op("mul", x=x, y=s.op("rsqrt", x=mean, epsilon=s.scalar(0, x)))
    return s.op("mul", x=found, y=s.x(1)) if s.has(1) else found


@lowers("SimplifiedLayerNormalization", to="reduce_mean, rsqrt, mul")
def simplified_layer_norm(s: Scope) -> Var:
    """ONNX Runtime has it in the ONNX domain."""
    return rms_norm(s)


@lowers("SkipSimplifiedLayerNormalization", to="add, reduce_mean, rsqrt, mul", domain="com.microsoft",
        limits="deviation as a result")  # fmt: skip
def skip_rms_norm(s: Scope) -> list[Var | None]:
    """rms_norm(x + skip + bias) with the sum as the last result"""
    x = s.op("add", x=s.x(0), y=s.x(1))
    x = s.op("add", x=x, y=s.x(3)) if s.has(3) else x
    mean = s.op("reduce_mean", x=s.op("mul", x=x, y=x), axes=[int(x.rank) - 1], keep_dims=True)
    mean = s.op("add", x=mean, y=s.scalar(float(s.attr("epsilon", 1e-5)), x))
    found = s.op("mul", x=x, y=s.op("rsqrt", x=mean, epsilon=s.scalar(0, x)))
    return [s.op("mul", x=found, y=s.x(2)), None, None, x][: len(s.node.outputs)]


@lowers("InstanceNormalization", to="instance_norm", limits="parameters that are computed")
def instance_norm(s: Scope) -> Var:
    """Over the spatial dimensions of each channel."""
    gamma, beta = s.need(1, "gamma"), s.need(2, "beta")
    x, eps = s.x(), epsilon(s, s.attr("epsilon", 1e-5), s.x())
    if s.rank() in (3, 4):
        return s.op("instance_norm", x=x, gamma=gamma, beta=beta, epsilon=eps)
    return normalised(s, x, gamma, beta, float(eps))


def normalised(s: Scope, x: Var, gamma: np.ndarray, beta: np.ndarray, eps: float) -> Var:
    """The same by mean and variance."""
    axes, form = list(range(2, s.rank())), [1, -1, *[1] * (s.rank() - 2)]
    centred = s.op("sub", x=x, y=s.op("reduce_mean", x=x, axes=axes, keep_dims=True))
    variance = s.op("reduce_mean", x=s.op("mul", x=centred, y=centred), axes=axes, keep_dims=True)
    scale = s.op("rsqrt", x=s.op("add", x=variance, y=s.scalar(eps, x)), epsilon=s.scalar(0, x))
    found = s.op("mul", x=s.op("mul", x=centred, y=scale), y=s.constant(gamma.reshape(form)))
    return s.op("add", x=found, y=s.constant(beta.reshape(form)))


@lowers("GroupNormalization", to="reshape, layer_norm, mul, add", limits="an open shape")
def group_norm(s: Scope) -> Var:
    """Each group as one row; gamma and beta by channel."""
    x, groups, shape = s.x(), int(s.attr("num_groups")), s.shape()
    rows = s.reshape(x, [shape[0], groups, -1])
    rows = s.op("layer_norm", x=rows, axes=[2], epsilon=epsilon(s, s.attr("epsilon", 1e-5), x))
    found = s.reshape(rows, shape)
    form = [1, -1, *[1] * (len(shape) - 2)]
    found = s.op("mul", x=found, y=s.reshape(s.x(1), form))
    return s.op("add", x=found, y=s.reshape(s.x(2), form))


@lowers("MeanVarianceNormalization", to="reduce_mean, rsqrt, mul")
def mean_variance(s: Scope) -> Var:
    """(x - mean) / (deviation + 1e-9)"""
    x, axes = s.x(), [s.axis(a) for a in s.ints("axes", [0, 2, 3]) or []]
    centred = s.op("sub", x=x, y=s.op("reduce_mean", x=x, axes=axes, keep_dims=True))
    variance = s.op("reduce_mean", x=s.op("mul", x=centred, y=centred), axes=axes, keep_dims=True)
    deviation = s.op("add", x=s.op("sqrt", x=variance), y=s.scalar(1e-9, x))
    return s.op("real_div", x=centred, y=deviation)


@lowers("LRN", to="local_response_norm", limits="a rank other than 3 and 4")
def lrn(s: Scope) -> Var:
    """x / (bias + alpha / size * sum of squares of neighbouring channels) ^ beta"""
    x = s.x()
    if s.rank() not in (3, 4):
        raise Refused(f"rank {s.rank()}")
    number = {name: s.scalar(s.attr(name, d), x) for name, d in (("alpha", 1e-4), ("beta", 0.75))}
    return s.op("local_response_norm", x=x, size=int(s.attr("size")), k=s.scalar(s.attr("bias", 1.0), x), **number)


@lowers("LpNormalization", to="reduce_l2_norm, reduce_l1_norm, real_div")
def lp_norm(s: Scope) -> Var:
    """x / norm, 0 where the norm is 0"""
    x, axis = s.x(), s.axis(s.attr("axis", -1))
    kind = {1: "reduce_l1_norm", 2: "reduce_l2_norm"}[int(s.attr("p", 2))]
    norm = s.op(kind, x=x, axes=[axis], keep_dims=True)
    tiny = 6.2e-5 if s.program.half or type_of(x) == "fp16" else 1e-30
    return s.op("real_div", x=x, y=s.op("maximum", x=norm, y=s.scalar(tiny, x)))
