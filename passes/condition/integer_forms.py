"""What a target's table would say of operators that can be rewritten into ones that it computes in integers.

A rewrite pays inside a quantized region alone. Whether a node stands in one is asked of the same search that decides
the plan (`plan.region`), with a line for each operator that has an integer form: it is a follower of its neighbours.
All rewrites ask with all lines, so that one of them does not wait for the other.
"""

from __future__ import annotations

import math
from dataclasses import replace
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from qcompiler import ir
from qcompiler.passes.condition.stem import spatial
from qcompiler.passes.condition.strided import strided
from qcompiler.passes.plan.region import Region, choose
from qcompiler.quant import QSpec
from qcompiler.targets import REST, Activation, OpRule, Same, TargetSpec

RELU = ("Relu", "Clip")
SMALLEST_SLOPE, LARGEST_SLOPE, LARGEST_OFFSET = 1e-3, 1e3, 8.0


def region_with_forms(model: ir.Model, target: TargetSpec, spec: QSpec, keep_float: tuple[str, ...]) -> Region:
    """The nodes that would compute in integers if every node with an integer form were rewritten.

    Raises:
        UsageError: a `keep_float` pattern matches nothing.
    """
    stored = Activation((spec,))
    forms = (
        OpRule("hard-activation", ("HardSwish", "HardSigmoid"), {0: stored}, stored, "", "follow", conditions=(ramp,)),
        OpRule("whole-average", ("AveragePool",), {0: stored}, stored, "", "follow", conditions=(whole_average,)),
        OpRule("average-pool", ("AveragePool",), {0: stored}, stored, "", "follow", RELU, conditions=(average,)),
        OpRule("stride", ("Slice",), {0: stored}, Same(), "", "follow", stored=True, conditions=(subsamples,)),
        OpRule("pad-channels", ("Pad",), {0: stored}, Same(), "", "follow", conditions=(pads_subsample,)),
        OpRule("concat", ("Concat",), {REST: stored}, stored, "", "follow", RELU, conditions=(of_absorbers,)),
        OpRule("shuffle", ("Reshape", "Transpose"), {0: stored}, Same(), "", "follow", conditions=(in_shuffle,)),
    )
    schemes = {**target.schemes, "int8": (*forms, *target.schemes["int8"])}
    return choose(model, replace(target, schemes=MappingProxyType(schemes)), "int8", keep_float)


# ---- HardSigmoid
def slope(node: ir.Node) -> tuple[float, float]:
    """Alpha and beta of a HardSigmoid, or of the one in a HardSwish."""
    if node.op == "HardSwish":
        return 1 / 6, 0.5
    return float(node.attrs.get("alpha", 0.2)), float(node.attrs.get("beta", 0.5))


def ramp(node: ir.Node) -> str | None:
    """The slope is positive, and the ramp of a size that a grid of 255 steps expresses."""
    alpha, beta = slope(node)
    if not SMALLEST_SLOPE <= alpha <= LARGEST_SLOPE:
        return f"slope {alpha:g} of {node.op} {node.name!r} is not positive, or extreme"
    return None if abs(beta) <= LARGEST_OFFSET else f"offset {beta:g} of {node.op} {node.name!r} is extreme"


# ---- AveragePool
def whole_average(node: ir.Node) -> str | None:
    """There is one window; it holds the whole image and no padding that counts."""
    x, y = node.inputs[0].shape, node.outputs[0].shape
    if x is None or y is None or len(x) != 4 or any(d != 1 for d in y[2:]) or not all(isinstance(d, int) for d in x):
        return f"AveragePool {node.name!r} has several windows"
    _, pads, kernel = spatial(node)
    if any(kernel[i] - pads[i] < size for i, size in enumerate(x[2:])):
        return f"the window of AveragePool {node.name!r} leaves a part of {node.inputs[0].name!r} out"
    counts = any(pads) and node.attrs.get("count_include_pad", 0)
    return f"AveragePool {node.name!r} counts its padding" if counts else None


def average(node: ir.Node) -> str | None:
    """The windows are plain, the channels are known, and so is the number that each window is divided by."""
    what, attrs = f"AveragePool {node.name!r}", node.attrs
    shape, kernel = node.inputs[0].shape, list(attrs["kernel_shape"])
    if attrs.get("ceil_mode", 0) or any(d != 1 for d in attrs.get("dilations", ())):
        return f"{what} rounds up or has dilations"
    if shape is None or len(shape) != len(kernel) + 2 or not isinstance(shape[1], int):
        return f"channels of {node.inputs[0].name!r} are not known"
    if not any(attrs.get("pads", [])) and attrs.get("auto_pad", "NOTSET") in ("NOTSET", "VALID"):
        return None
    if len(kernel) != 2 or not all(isinstance(size, int) for size in shape[1:]):
        return f"{what} pads an image whose size is not known"
    return None if attrs.get("count_include_pad", 0) or shares(node) is not None else f"{what} divides by many numbers"


def shares(pool: ir.Node) -> tuple[npt.NDArray[np.float32], int] | None:
    """How much more than 1 / (kernel size) each window (rows, columns) of a two-dimensional pool weighs its elements.

    Returns:
        The factors, and a number that makes all of them integers below 256; None where there is none, or where the size
        of the image is not known.
    """
    if not all(isinstance(size, int) for size in pool.inputs[0].shape[2:]):
        return None
    strides, pads, kernel = spatial(pool)
    factors, unit = [], 1
    for i, size in enumerate(pool.inputs[0].shape[2:]):
        count = (size + pads[i] + pads[i + 2] - kernel[i]) // strides[i] + 1
        first = np.arange(count) * strides[i] - pads[i]
        inside = np.minimum(first + kernel[i], size) - np.maximum(first, 0)
        if (inside < 1).any():
            return None
        unit *= math.lcm(*(int(n) // math.gcd(int(n), kernel[i]) for n in inside))
        factors.append(kernel[i] / inside)
    table = np.outer(*factors)
    return (table.astype(np.float32), unit) if table.max() * unit < 256 else None


# ---- Concat
def of_absorbers(node: ir.Node) -> str | None:
    """Relu or Clip stands behind it, which all its operands could take in."""
    behind = node.outputs[0].outputs
    if len(behind) != 1 or behind[0].op not in RELU:
        return f"no activation behind Concat {node.name!r}"
    for x in node.inputs:
        if not x.inputs or x.inputs[0].op not in ("Conv", "AveragePool", "Add", "Mul") or len(x.outputs) != 1:
            return f"{x.name!r} cannot take in the activation behind Concat {node.name!r}"
    return None


# ---- strided shortcuts
def subsamples(node: ir.Node) -> str | None:
    """The Slice takes every n-th row or column."""
    chain = strided(node.outputs[0])
    spatial_only = chain is not None and chain.spatial
    return None if spatial_only else f"Slice {node.name!r} does not take every n-th row or column"


def pads_subsample(node: ir.Node) -> str | None:
    """The Pad adds channels of zeros behind such slices."""
    chain = strided(node.inputs[0])
    if channel_pads(node) is None or chain is None or not chain.spatial or not isinstance(chain.source.shape[1], int):
        return f"Pad {node.name!r} does not only add channels of zeros behind strided slices"
    return None


def channel_pads(pad: ir.Node) -> tuple[int, int] | None:
    """How many channels of zeros a Pad adds before and behind; None where it does anything else."""
    present = [tensor for tensor in pad.inputs[1:] if tensor.name]
    if pad.attrs.get("mode", "constant") != "constant" or not all(isinstance(t, ir.Constant) for t in present):
        return None
    value, axes = (pad.inputs[i] if len(pad.inputs) > i and pad.inputs[i].name else None for i in (2, 3))
    if len(pad.inputs) < 2 or (value is not None and (ir.array(value) != 0).any()):
        return None
    amounts = [int(n) for n in ir.array(pad.inputs[1]).reshape(-1)]
    listed = range(4) if axes is None else [int(axis) % 4 for axis in ir.array(axes).reshape(-1)]
    if len(amounts) != 2 * len(listed):
        return None
    ends = [amounts[i :: len(listed)] for i in range(len(listed))]
    by_axis = dict(zip(listed, ends, strict=True))
    before, behind = by_axis.pop(1, [0, 0])
    if any(n for pair in by_axis.values() for n in pair) or min(before, behind) < 0:
        return None
    return before, behind


# ---- channel shuffle
def shuffle_of(node: ir.Node) -> tuple[ir.Node, ir.Node, ir.Node] | None:
    """Reshape, Transpose, Reshape around a Transpose, where together they reorder axis 1 alone."""
    if node.op != "Transpose" or node.domain:
        return None
    before = node.inputs[0].inputs[0] if node.inputs[0].inputs else None
    behind = node.outputs[0].outputs[0] if len(node.outputs[0].outputs) == 1 else None
    if before is None or behind is None or before.op != "Reshape" or behind.op != "Reshape":
        return None
    x, inner, y = before.inputs[0].shape, node.inputs[0].shape, behind.outputs[0].shape
    if x is None or inner is None or y is None or len(inner) != len(x) + 1 or len(y) != len(x) or len(x) < 2:
        return None
    if list(node.attrs.get("perm", [])) != [0, 2, 1, *range(3, len(inner))]:
        return None
    known = all(isinstance(d, int) for d in [*x[1:], *inner[1:], *y[1:]])
    if not known or x[1:] != y[1:] or [inner[1] * inner[2], *inner[3:]] != x[1:] or behind.inputs[0].outputs[1:]:
        return None
    return (before, node, behind) if len(before.outputs[0].outputs) == 1 else None


def in_shuffle(node: ir.Node) -> str | None:
    """The node is one of the three of a channel shuffle."""
    around = [node, *(n for t in node.outputs for n in t.outputs), *(n for t in node.inputs[:1] for n in t.inputs)]
    found = [trio for other in around if (trio := shuffle_of(other)) is not None]
    if any(member is node for trio in found for member in trio):
        return None
    return f"{node.op} {node.name!r} is no part of a channel shuffle"
