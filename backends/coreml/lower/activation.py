"""Activations, with the parameters of ONNX."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from qcompiler.backends.coreml.lower.scope import Refused, Scope, Var, type_of
from qcompiler.backends.coreml.lower.table import lowers


@lowers("Relu", to="relu")
def relu(s: Scope) -> Var:
    """max(x, 0); of integers by maximum."""
    x = s.x()
    if type_of(x) == "int32":
        return s.op("maximum", x=x, y=np.int32(0))
    return s.op("relu", x=x)


@lowers("LeakyRelu", to="leaky_relu")
def leaky_relu(s: Scope) -> Var:
    """x below 0 times alpha."""
    return s.op("leaky_relu", x=s.x(), alpha=s.scalar(s.attr("alpha", 0.01), s.x()))


@lowers("PRelu", to="prelu, relu, mul")
def prelu(s: Scope) -> Var:
    """A slope for each channel where the shapes say so, else max(x, 0) + slope * min(x, 0)."""
    x, slope = s.x(0), s.known(1)
    if slope is not None and s.rank() >= 3:
        channels = x.shape[1]
        wide = [1] * (s.rank() - slope.ndim) + list(slope.shape)
        flat = all(d == 1 for i, d in enumerate(wide) if i != 1)
        if flat and isinstance(channels, int | np.integer) and wide[1] in (1, channels):
            return s.op("prelu", x=x, alpha=np.broadcast_to(slope.reshape(-1), (int(channels),)).copy())
    zero = s.scalar(0, x)
    below = s.op("mul", x=s.op("minimum", x=x, y=zero), y=s.x(1))
    return s.op("add", x=s.op("maximum", x=x, y=zero), y=below)


@lowers("Elu", to="elu")
def elu(s: Scope) -> Var:
    """alpha * (e^x - 1) below 0."""
    return s.op("elu", x=s.x(), alpha=s.scalar(s.attr("alpha", 1.0), s.x()))


@lowers("Selu", to="elu, mul")
def selu(s: Scope) -> Var:
    """gamma * elu(x)"""
    x = s.x()
    alpha, gamma = s.attr("alpha", 1.67326319217681884765625), s.attr("gamma", 1.05070102214813232421875)
    return s.op("mul", x=s.op("elu", x=x, alpha=s.scalar(alpha, x)), y=s.scalar(gamma, x))


@lowers("Celu", to="elu, mul")
def celu(s: Scope) -> Var:
    """max(0, x) + min(0, alpha * (e^(x / alpha) - 1)) = alpha * elu(x / alpha)"""
    x, alpha = s.x(), s.attr("alpha", 1.0)
    inner = s.op("elu", x=s.op("mul", x=x, y=s.scalar(1 / alpha, x)), alpha=s.scalar(1, x))
    return s.op("mul", x=inner, y=s.scalar(alpha, x))


@lowers("Sigmoid", to="sigmoid")
def sigmoid(s: Scope) -> Var:
    """1 / (1 + e^-x)"""
    return s.op("sigmoid", x=s.x())


@lowers("Softplus", to="softplus")
def softplus(s: Scope) -> Var:
    """log(1 + e^x)"""
    return s.op("softplus", x=s.x())


@lowers("Softsign", to="softsign")
def softsign(s: Scope) -> Var:
    """x / (1 + |x|)"""
    return s.op("softsign", x=s.x())


@lowers("HardSigmoid", to="sigmoid_hard")
def hard_sigmoid(s: Scope) -> Var:
    """min(max(alpha * x + beta, 0), 1)"""
    x = s.x()
    alpha, beta = s.scalar(s.attr("alpha", 0.2), x), s.scalar(s.attr("beta", 0.5), x)
    return s.op("sigmoid_hard", x=x, alpha=alpha, beta=beta)


@lowers("HardSwish", to="sigmoid_hard, mul")
def hard_swish(s: Scope) -> Var:
    """x * hard_sigmoid(x; 1/6, 1/2)"""
    x = s.x()
    return s.op("mul", x=x, y=s.op("sigmoid_hard", x=x, alpha=s.scalar(1 / 6, x), beta=s.scalar(0.5, x)))


@lowers("ThresholdedRelu", to="greater, select")
def thresholded_relu(s: Scope) -> Var:
    """x above alpha, else 0; MIL's operator keeps x at alpha itself."""
    x = s.x()
    above = s.op("greater", x=x, y=s.scalar(s.attr("alpha", 1.0), x))
    return s.op("mul", x=x, y=s.cast(above, type_of(x)))


@lowers("Gelu", to="gelu")
def gelu(s: Scope) -> Var:
    """By erf, or by tanh."""
    mode = "TANH_APPROXIMATION" if s.attr("approximate", "none") == "tanh" else "EXACT"
    return s.op("gelu", x=s.x(), mode=mode)


@lowers("FastGelu", to="gelu", domain="com.microsoft")
def fast_gelu(s: Scope) -> Var:
    """By tanh, behind an optional bias."""
    x = s.op("add", x=s.x(0), y=s.x(1)) if s.has(1) else s.x()
    return s.op("gelu", x=x, mode="TANH_APPROXIMATION")


@lowers("Gelu", to="gelu", domain="com.microsoft")
def erf_gelu(s: Scope) -> Var:
    """By erf."""
    return s.op("gelu", x=s.x(), mode="EXACT")


@lowers("Swish", to="sigmoid, mul")
@lowers("QuickGelu", to="sigmoid, mul", domain="com.microsoft")
def swish(s: Scope) -> Var:
    """x * sigmoid(alpha * x)"""
    x, alpha = s.x(), s.attr("alpha", 1.702 if s.node.domain else 1.0)
    inner = x if alpha == 1.0 else s.op("mul", x=x, y=s.scalar(alpha, x))
    return s.op("mul", x=x, y=s.op("sigmoid", x=inner))


@lowers("Mish", to="softplus, tanh, mul")
def mish(s: Scope) -> Var:
    """x * tanh(softplus(x))"""
    x = s.x()
    return s.op("mul", x=x, y=s.op("tanh", x=s.op("softplus", x=x)))


@lowers("Shrink", to="greater, less, mul, add")
def shrink(s: Scope) -> Var:
    """x + bias below -lambd, x - bias above it, else 0."""
    x, limit, bias = s.x(), s.attr("lambd", 0.5), s.attr("bias", 0.0)
    if type_of(x) == "int32":
        raise Refused("integers")
    above = s.cast(s.op("greater", x=x, y=s.scalar(limit, x)), type_of(x))
    below = s.cast(s.op("less", x=x, y=s.scalar(-limit, x)), type_of(x))
    up = s.op("mul", x=above, y=s.op("sub", x=x, y=s.scalar(bias, x)))
    return s.op("add", x=up, y=s.op("mul", x=below, y=s.op("add", x=x, y=s.scalar(bias, x))))


@lowers("Softmax", to="softmax")
def softmax(s: Scope) -> Var:
    """Along one axis: prepare brings models to opset 13 and later."""
    return s.op("softmax", x=s.x(), axis=s.axis(s.attr("axis", -1)))


@lowers("LogSoftmax", to="reduce_log_sum_exp, sub")
def log_softmax(s: Scope) -> Var:
    """y - log(sum(e^y)) with y = x - max(x): exact where x is large, and no log of 0 as in log(softmax(x))."""
    x, axes = s.x(), [s.axis(s.attr("axis", -1))]
    x = s.op("sub", x=x, y=s.op("reduce_max", x=x, axes=axes, keep_dims=True))
    return s.op("sub", x=x, y=s.op("reduce_log_sum_exp", x=x, axes=axes, keep_dims=True))


@lowers("Hardmax", to="reduce_argmax, one_hot")
def hardmax(s: Scope) -> Var:
    """1 at the first largest value, else 0."""
    x, axis = s.x(), s.axis(s.attr("axis", -1))
    size = s.shape()[axis]
    index = s.op("reduce_argmax", x=x, axis=axis, keep_dims=False)
    one, zero = s.scalar(1, x), s.scalar(0, x)
    return s.op("one_hot", indices=index, one_hot_vector_size=size, axis=axis, on_value=one, off_value=zero)


@lowers("Dropout", to="identity", limits="training mode; the mask as a result")
def dropout(s: Scope) -> Any:
    """Nothing, at inference."""
    training = s.known(2)
    if (s.has(2) and training is None) or (training is not None and bool(training.reshape(()))):
        raise Refused("it is in training mode")
    if len(s.node.outputs) > 1 and s.node.outputs[1].name:
        shape = s.shape()
        mask = s.op("fill", shape=np.array(shape, np.int32), value=np.float32(1)) if math.prod(shape) else None
        return [s.op("identity", x=s.x()), s.cast(mask, "bool")]
    return s.op("identity", x=s.x())
