"""What normalizations promise about the channels of values, without data.

    y = BatchNormalization(x; gamma, beta):      y_c ~ N(beta_c, gamma_c^2)
    y = InstanceNormalization(x; gamma, beta):   the same, to the digit

Elementwise functions behind them, sums, means and concatenations carry it on. A BatchNormalization is gone by the time
of a plan: the layer before it has taken it in. It is found in the model as given, and the layer by its weights: if they
are those that folding gives, its result is y.

Normalizations over channels promise nothing of a single one. Taken for N(beta, gamma^2), the channels behind
LayerNormalization left 0.98 to 1.11 of the mean error of rounded weights in vit_cifar10 and minilm_l6, where
BatchNormalization leaves 0.00 to 0.04 (`benchmarks/without_data.py`), so they are not.

Source: Nagel, van Baalen, Blankevoort, Welling, "Data-free quantization through weight equalization and bias
correction" (ICCV 2019), section 4.2.1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
from scipy.special import erf, expit

from qcompiler import ir
from qcompiler.numerics.normal_moments import Moments
from qcompiler.passes.fusion.linear import Linear
from qcompiler.passes.prepare.lift_constants import LiftConstants
from qcompiler.passes.prepare.name_everything import NameEverything
from qcompiler.passes.prepare.strip_input_initializers import StripInputInitializers
from qcompiler.pipeline import Pipeline

F64 = npt.NDArray[np.float64]
NORMS = ("InstanceNormalization", "BatchNormalization")
CLOSE = 1e-3
SMOOTH: Mapping[str, Callable[[F64], F64]] = {
    "HardSwish": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    "Sigmoid": expit,
    "Tanh": np.tanh,
    "Softplus": lambda x: np.logaddexp(x, 0),
    "Gelu": lambda x: x * 0.5 * (1 + erf(x / math.sqrt(2))),
}


def folded_norms(original: ir.Model, prepared: ir.Model) -> dict[str, Moments]:
    """What folded BatchNormalizations of the model as given promise, by the name of the value in the prepared model."""
    if not any(node.op == "BatchNormalization" for node in original.nodes):
        return {}
    makers = {tensor.name: node for node in prepared.nodes for tensor in node.outputs}
    given, found = original.copy(), {}
    Pipeline().graph(given, [NameEverything(), StripInputInitializers(), LiftConstants()])
    for norm in given.nodes:
        if norm.op != "BatchNormalization" or norm.domain or not norm.inputs[0].inputs:
            continue
        numbers = [parameter(norm, port) for port in range(1, 5)]
        before = norm.inputs[0].inputs[0]
        for name in (norm.inputs[0].name, norm.outputs[0].name):
            after = makers.get(name)
            if after is None or after.op != before.op or any(values is None for values in numbers):
                continue
            gamma, beta, mean, var = (np.asarray(values) for values in numbers)
            scale = gamma / np.sqrt(var + float(norm.attrs.get("epsilon", 1e-5)))
            if took_in(before, after, scale, beta - mean * scale):
                found[name] = Moments(beta, np.abs(gamma))
    return found


def took_in(before: ir.Node, after: ir.Node, scale: F64, shift: F64) -> bool:
    """Whether a layer has the weights and the bias of an earlier one times `scale`, plus `shift`."""
    old, new = Linear(before), Linear(after)
    if old.node.op not in ("Conv", "ConvTranspose", "Gemm") or old.refusal() or new.refusal():
        return False
    if list(old.weight.shape) != list(new.weight.shape) or old.channels != scale.size:
        return False
    bias = np.zeros(scale.size) if old.bias is None else ir.array(old.bias).astype(np.float64).reshape(-1)
    got = np.zeros(scale.size) if new.bias is None else ir.array(new.bias).astype(np.float64).reshape(-1)
    return near(bias * scale + shift, got) and near(old.scaled_weight(scale), ir.array(new.weight))


def near(wanted: npt.NDArray[np.floating], got: npt.NDArray[np.floating]) -> bool:
    """Whether two arrays differ by rounding."""
    close = CLOSE * float(np.abs(wanted).max(initial=0.0))
    return wanted.shape == got.shape and bool(np.abs(wanted - got).max(initial=0.0) <= close)


def promised(model: ir.Model, known: Mapping[str, Moments]) -> dict[str, Moments]:
    """Moments by the name of the value, for the values of the main graph of which anything is promised.

    Args:
        model: the prepared model.
        known: what is promised besides what its own nodes say, see `folded_norms`.
    """
    found = dict(known)
    for node in model.nodes:
        if node.domain or not node.outputs or node.outputs[0].name in found:
            continue
        moments = behind(node, found)
        if moments is not None:
            found[node.outputs[0].name] = moments
    return found


def behind(node: ir.Node, known: Mapping[str, Moments]) -> Moments | None:
    """Of the result of a node."""
    if node.op in NORMS:
        gamma, beta = parameter(node, 1), parameter(node, 2)
        if gamma is None or beta is None or gamma.shape != beta.shape:
            return None
        return Moments(beta, np.abs(gamma))
    given = [known.get(tensor.name) for tensor in node.inputs if tensor.name]
    x = given[0] if given else None
    match node.op:
        case "Concat" if int(node.attrs.get("axis", 1)) in (1, 1 - rank(node.outputs[0])):
            parts = [part for part in given if part is not None]
            if len(parts) == len(given):
                mean = np.concatenate([part.mean for part in parts])
                return Moments(mean, np.concatenate([part.deviation for part in parts]))
        case "Add" if len(given) == 2 and x is not None and given[1] is not None:
            return x.plus(given[1]) if x.mean.shape == given[1].mean.shape else None
        case "Relu" | "Clip" if x is not None:
            low, high = (0.0, math.inf) if node.op == "Relu" else (bound(node, 1, -math.inf), bound(node, 2, math.inf))
            return None if low is None or high is None else x.clipped(low, high)
        case "LeakyRelu" if x is not None:
            slope = float(node.attrs.get("alpha", 0.01))
            return x.through(lambda values: np.where(values < 0, slope * values, values))
        case "GlobalAveragePool" if x is not None:
            return Moments(x.mean, np.zeros_like(x.mean))  # means of many places hardly move
        case "Identity" if x is not None:
            return x
        case "Flatten" | "Reshape" | "Squeeze" if x is not None and rank(node.outputs[0]) == 2:
            shape = node.inputs[0].shape
            return x if shape is not None and all(size == 1 for size in shape[2:]) else None
        case op if x is not None and op in SMOOTH:
            return x.through(SMOOTH[op])
    return None


def parameter(node: ir.Node, port: int) -> F64 | None:
    """A constant vector."""
    tensor = node.inputs[port] if port < len(node.inputs) else None
    if not isinstance(tensor, ir.Constant) or len(tensor.shape) != 1:
        return None
    return np.asarray(ir.array(tensor), np.float64)


def bound(node: ir.Node, port: int, none: float) -> float | None:
    """A bound of a Clip: `none` where there is none, None where it is computed."""
    tensor = node.inputs[port] if port < len(node.inputs) else None
    if tensor is None or not tensor.name:
        return none
    return float(ir.array(tensor).item()) if isinstance(tensor, ir.Constant) else None


def rank(tensor: ir.Tensor) -> int:
    """Of a value; 0 where it is not known."""
    return 0 if tensor.shape is None else len(tensor.shape)
