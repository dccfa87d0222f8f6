"""Operators that targets have a form for, and some chips do not: written out in others, as in `expand_operators`.

    GroupNormalization, InstanceNormalization    LayerNormalization of x with each group in one row; then * s + b
    LayerNormalization(x, s, b)                  d / sqrt(mean(d^2) + eps) * s + b, d = x - mean(x)
    BatchNormalization(x; s, b, m, v)            x * f + (b - m f), f = s / sqrt(v + eps)
    LRN(x)                                       x / (k + alpha / n * S)^beta, S the sum of x^2 over n channels: a Conv
    LpNormalization, ReduceL2                    x / |x|; sqrt(sum of x^2)
    PRelu(x, s)                                  Relu(x) - s Relu(-x)
    Selu, ThresholdedRelu, HardSwish             g Elu(x); Where(x > a, x, 0); x HardSigmoid(x)
    Gelu(x)                                      x Sigmoid(a x + b x^3 + c x^5), |x| cut to 5 inside: to 2.6e-5, as
                                                 log(F / (1 - F)) of the normal distribution F is nearly a cubic;
                                                 approximate: a = 2 sqrt(2 / pi), b = 0.044715 a, c = 0, exactly

Source: ONNX operator standard, functions of these operators; Gelu: Hendrycks and Gimpel, arXiv 1606.08415. a, b
and c of the first form: least largest error of the whole on [0, 8], by a fit in float64 (tests hold it to that).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from qcompiler import ir

if TYPE_CHECKING:
    from qcompiler.passes.fusion.expand_operators import Writing

Form = Callable[["Writing", ir.Tensor], None]
ROOT = 2 * math.sqrt(2 / math.pi)
LOGIT, ROUGH_LOGIT = (1.595005, 0.07402089, -0.0007045848), (ROOT, 0.044715 * ROOT, 0.0)
"""a, b, c of Gelu."""
CERTAIN = 5.0
"""Beyond, the gate of Gelu is 0 or 1 to 3e-7."""


def by_channel(values: npt.NDArray[Any], x: ir.Tensor) -> npt.NDArray[Any]:
    """One value for each channel, in the rank of x."""
    return values.reshape(-1, *[1] * (len(x.shape) - 2))


def affine(to: Writing, x: ir.Tensor, scale: npt.NDArray[Any], shift: npt.NDArray[Any]) -> None:
    """x * scale + shift."""
    to.last("Add", to("Mul", x, to.array("scale", scale)), to.array("shift", shift))


def grouped_norm(to: Writing, x: ir.Tensor) -> None:
    """Rows of groups; an instance is a group of one channel."""
    channels, rows = int(x.shape[1]), int(to.attrs.get("num_groups", x.shape[1]))
    width = math.prod(int(size) for size in x.shape[1:]) // rows
    folded = to(
        "Reshape", x, to.array("rows", np.asarray([x.shape[0], rows, width], np.int64)), shape=[x.shape[0], rows, width]
    )
    ones, zeros = np.ones(width, np.float32), np.zeros(width, np.float32)
    epsilon = float(to.attrs.get("epsilon", 1e-5))
    flat = to("LayerNormalization", folded, to.array("one", ones), to.array("zero", zeros), axis=-1, epsilon=epsilon)
    back = to("Reshape", flat, to.array("shape", np.asarray(x.shape, np.int64)), shape=list(x.shape))
    scale, shift = (np.repeat(ir.array(part), channels // part.shape[0]) for part in to.rest[:2])
    affine(to, back, by_channel(scale, x), by_channel(shift, x))


def layer_norm(to: Writing, x: ir.Tensor) -> None:
    """See the module."""
    first = int(to.attrs.get("axis", -1)) % len(x.shape)
    axes = np.arange(first, len(x.shape), dtype=np.int64)
    small = [*x.shape[:first], *[1] * len(axes)]
    d = to("Sub", x, to("ReduceMean", x, to.array("axes", axes), shape=small))
    variance = to("ReduceMean", to("Mul", d, d), to.array("axes", axes), shape=small)
    root = to("Sqrt", to("Add", variance, float(to.attrs.get("epsilon", 1e-5))))
    scaled = [to("Div", d, root), to.rest[0]]
    if len(to.rest) > 1 and to.rest[1].name:
        to.last("Add", to("Mul", *scaled), to.rest[1])
    else:
        to.last("Mul", *scaled)


def batch_norm(to: Writing, x: ir.Tensor) -> None:
    """See the module."""
    scale, shift, mean, variance = (ir.array(part).astype(np.float64) for part in to.rest)
    factor = scale / np.sqrt(variance + float(to.attrs.get("epsilon", 1e-5)))
    parts = (by_channel(part.astype(np.float32), x) for part in (factor, shift - mean * factor))
    affine(to, x, *parts)


def lrn(to: Writing, x: ir.Tensor) -> None:
    """The sum over channels is a Conv of 1 x 1 with a band of weights; its bias is k."""
    size, channels = int(to.attrs["size"]), int(x.shape[1])
    alpha, beta = float(to.attrs.get("alpha", 1e-4)), float(to.attrs.get("beta", 0.75))
    ahead = np.arange(channels) - np.arange(channels)[:, None]
    band = (ahead >= -((size - 1) // 2)) & (ahead <= size - 1 - (size - 1) // 2)
    weight = (band * (alpha / size)).astype(np.float32).reshape(channels, channels, *[1] * (len(x.shape) - 2))
    bias = np.full(channels, float(to.attrs.get("bias", 1.0)), np.float32)
    total = to("Conv", to("Mul", x, x), to.array("band", weight), to.array("k", bias))
    to.last("Div", x, to("Pow", total, beta))


def length(to: Writing, x: ir.Tensor, axes: ir.Tensor | None, keep: bool, shape: list[int | str | None]) -> ir.Tensor:
    """sqrt(sum of x^2)."""
    rest = [] if axes is None else [axes]
    return to("Sqrt", to("ReduceSum", to("Mul", x, x), *rest, shape=shape, keepdims=int(keep)))


def lp_norm(to: Writing, x: ir.Tensor) -> None:
    """x / |x|, with both norms."""
    axis = int(to.attrs.get("axis", -1)) % len(x.shape)
    axes, shape = (
        to.array("axis", np.asarray([axis], np.int64)),
        [1 if i == axis else size for i, size in enumerate(x.shape)],
    )
    if int(to.attrs.get("p", 2)) == 1:
        to.last("Div", x, to("ReduceSum", to("Abs", x), axes, shape=shape, keepdims=1))
    else:
        to.last("Div", x, length(to, x, axes, True, shape))


def reduce_l2(to: Writing, x: ir.Tensor) -> None:
    """sqrt(sum of x^2)."""
    total = to("ReduceSum", to("Mul", x, x), *to.rest, like=to.y, **to.attrs)
    to.last("Sqrt", total)


def prelu(to: Writing, x: ir.Tensor) -> None:
    """Relu(x) - s Relu(-x)."""
    to.last("Sub", to("Relu", x), to("Mul", to("Relu", to("Neg", x)), to.rest[0]))


def selu(to: Writing, x: ir.Tensor) -> None:
    """g Elu(x)."""
    alpha, gamma = float(to.attrs.get("alpha", 1.6732632)), float(to.attrs.get("gamma", 1.0507010))
    to.last("Mul", to("Elu", x, alpha=alpha), gamma)


def thresholded_relu(to: Writing, x: ir.Tensor) -> None:
    """x where it is above a."""
    above = to("Greater", x, float(to.attrs.get("alpha", 1.0)), dtype=np.dtype(np.bool_))
    to.last("Where", above, x, 0.0)


def hard_swish(to: Writing, x: ir.Tensor) -> None:
    """x HardSigmoid(x)."""
    to.last("Mul", x, to("HardSigmoid", x, alpha=1 / 6, beta=0.5))


def gelu_with_bounds(to: Writing, x: ir.Tensor) -> list[tuple[ir.Tensor, tuple[float, float]]]:
    """With w = k x, k^5 = -c the gate is Sigmoid(w (a / k + w^2 (b / k^3 - w^2))): one factor less to keep on a grid.

    Without c, k^3 = b, and the inner bracket is 1. Both are positive and rise with |w|.

    Returns:
        What was added, and the bounds beyond which nothing of it lies, or matters.
    """
    a, b, c = ROUGH_LOGIT if to.attrs.get("approximate", "none") == "tanh" else LOGIT
    k = (-c) ** (1 / 5) if c else b ** (1 / 3)
    edge, first, second = float(np.float32(CERTAIN * k)), a / k, b / k**3
    scaled = to("Mul", x, k)
    w = to("Clip", scaled, -edge, edge)
    square = to("Mul", w, w)
    found = [(scaled, (-edge, edge)), (w, (-edge, edge)), (square, (0.0, edge**2))]
    inner, most = square, edge**2
    if c:
        rest = to("Sub", second, square)
        inner, most = to("Mul", square, rest), edge**2 * (second - edge**2)
        found += [(rest, (0.0, second)), (inner, (0.0, most))]
    total = to("Add", inner, first)
    logit = to("Mul", w, total)
    gate = to("Sigmoid", logit)
    to.last("Mul", x, gate)
    reach = edge * (first + most)
    return [*found, (total, (0.0, first + most)), (logit, (-reach, reach)), (gate, (0.0, 1.0))]


def gelu(to: Writing, x: ir.Tensor) -> None:
    """See the module."""
    gelu_with_bounds(to, x)


WRITTEN_OUT: Mapping[str, Form] = MappingProxyType(
    {
        "GroupNormalization": grouped_norm, "InstanceNormalization": grouped_norm, "LayerNormalization": layer_norm,
        "BatchNormalization": batch_norm, "LRN": lrn, "LpNormalization": lp_norm, "ReduceL2": reduce_l2,
        "PRelu": prelu, "Selu": selu, "ThresholdedRelu": thresholded_relu, "HardSwish": hard_swish, "Gelu": gelu,
    }
)  # fmt: skip
"""How each operator is written out."""

FIXED = {
    "GroupNormalization": (1, 2), "InstanceNormalization": (1, 2), "LayerNormalization": (), "LRN": (),
    "BatchNormalization": (1, 2, 3, 4), "LpNormalization": (),
}  # fmt: skip
"""The operators whose form needs a fixed shape, with the inputs that have to be constants."""
