"""Elementwise operations and activations."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import special

from qcompiler.backends.coreml.evaluate.table import COMPUTES, Array, computes

UNARY: dict[str, Any] = {
    "abs": np.abs, "acos": np.arccos, "asin": np.arcsin, "atan": np.arctan, "atanh": np.arctanh, "ceil": np.ceil,
    "cos": np.cos, "cosh": np.cosh, "erf": special.erf, "exp": np.exp, "exp2": np.exp2, "floor": np.floor,
    "identity": np.asarray, "logical_not": np.logical_not, "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6), "round": np.rint, "sigmoid": special.expit,
    "sign": np.sign, "sin": np.sin, "sinh": np.sinh, "sqrt": np.sqrt, "square": np.square, "tan": np.tan,
    "tanh": np.tanh, "silu": lambda x: x * special.expit(x), "softplus": lambda x: np.logaddexp(x, np.float32(0)),
    "softsign": lambda x: x / (1 + np.abs(x)),
}  # fmt: skip
BINARY: dict[str, Any] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "pow": np.power, "maximum": np.maximum,
    "minimum": np.minimum, "mod": np.mod, "equal": np.equal, "not_equal": np.not_equal, "less": np.less,
    "less_equal": np.less_equal, "greater": np.greater, "greater_equal": np.greater_equal,
    "logical_and": np.logical_and, "logical_or": np.logical_or, "logical_xor": np.logical_xor,
    "floor_div": np.floor_divide, "real_div": np.true_divide,
}  # fmt: skip

for _name, _function in UNARY.items():
    COMPUTES[_name] = lambda x, _f=_function: _f(x)
for _name, _function in BINARY.items():
    COMPUTES[_name] = lambda x, y, _f=_function: _f(x, y)


@computes("cast")
def cast(x: Array, dtype: str) -> Array:
    """float -> int truncates, anything -> bool is != 0."""
    if dtype == "bool":
        return x != 0
    kinds: dict[str, Any] = {"fp32": np.float32, "fp16": np.float16, "int32": np.int32, "int16": np.int16,
                             "uint16": np.uint16, "int8": np.int8, "uint8": np.uint8}  # fmt: skip
    wanted = np.dtype(kinds[dtype])
    if wanted.kind in "iu" and x.dtype.kind == "f":
        limit = np.iinfo(wanted)
        x = np.clip(np.nan_to_num(np.trunc(x.astype(np.float64))), limit.min, limit.max)
    return x.astype(wanted)


@computes("log")
def log(x: Array, epsilon: Any) -> Array:
    """log(x + epsilon)"""
    return np.log(x + np.float32(epsilon))


@computes("rsqrt")
def rsqrt(x: Array, epsilon: Any) -> Array:
    """1 / sqrt(x + epsilon)"""
    return 1 / np.sqrt(x + np.float32(epsilon))


@computes("inverse")
def inverse(x: Array, epsilon: Any) -> Array:
    """1 / (x + epsilon)"""
    return 1 / (x + np.float32(epsilon))


@computes("clip")
def clip(x: Array, alpha: Any, beta: Any) -> Array:
    """min(max(x, alpha), beta)"""
    return np.clip(x, alpha, beta)


@computes("clamped_relu")
def clamped_relu(x: Array, alpha: Any, beta: Any) -> Array:
    """min(x, beta), below 0 alpha * x"""
    return np.minimum(np.where(x >= 0, x, alpha * x), beta)


@computes("leaky_relu")
def leaky_relu(x: Array, alpha: Any) -> Array:
    """Below 0 alpha * x"""
    return np.where(x >= 0, x, np.float32(alpha) * x)


@computes("prelu")
def prelu(x: Array, alpha: Array) -> Array:
    """A slope for each channel."""
    return np.where(x >= 0, x, alpha.reshape(-1, *[1] * (x.ndim - 2)) * x)


@computes("elu")
def elu(x: Array, alpha: Any) -> Array:
    """Below 0 alpha * (e^x - 1)"""
    return np.where(x >= 0, x, np.float32(alpha) * np.expm1(np.minimum(x, 0)))


@computes("sigmoid_hard")
def sigmoid_hard(x: Array, alpha: Any, beta: Any) -> Array:
    """min(max(alpha * x + beta, 0), 1)"""
    return np.clip(np.float32(alpha) * x + np.float32(beta), 0, 1)


@computes("scaled_tanh")
def scaled_tanh(x: Array, alpha: Any, beta: Any) -> Array:
    """alpha * tanh(beta * x)"""
    return np.float32(alpha) * np.tanh(np.float32(beta) * x)


@computes("softplus_parametric")
def softplus_parametric(x: Array, alpha: Array, beta: Array) -> Array:
    """alpha * log(1 + e^(beta x)) by channel"""
    form = (-1, *[1] * (x.ndim - 2))
    return alpha.reshape(form) * np.logaddexp(beta.reshape(form) * x, np.float32(0))


@computes("threshold")
def threshold(x: Array, alpha: Any) -> Array:
    """max(x, alpha)"""
    return np.maximum(x, alpha)


@computes("thresholded_relu")
def thresholded_relu(x: Array, alpha: Any) -> Array:
    """x from alpha on, else 0"""
    return np.where(x >= alpha, x, 0)


@computes("gelu")
def gelu(x: Array, mode: str) -> Array:
    """By erf, tanh or sigmoid."""
    if mode == "TANH_APPROXIMATION":
        inner = np.float32(np.sqrt(2 / np.pi)) * (x + np.float32(0.044715) * x**3)
        return np.float32(0.5) * x * (1 + np.tanh(inner))
    if mode == "SIGMOID_APPROXIMATION":
        return x * special.expit(np.float32(1.702) * x)
    return np.float32(0.5) * x * (1 + special.erf(x / np.float32(np.sqrt(2))))


@computes("select")
def select(cond: Array, a: Array, b: Array) -> Array:
    """a where cond, else b"""
    return np.where(cond, a, b)


@computes("softmax")
def softmax(x: Array, axis: Any) -> Array:
    """e^x / sum(e^x)"""
    found = np.exp(x - x.max(axis=int(axis), keepdims=True))
    return found / found.sum(axis=int(axis), keepdims=True)
