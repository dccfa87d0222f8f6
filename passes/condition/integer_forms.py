"""What a target's table would say of operators that can be rewritten into ones that it computes in integers.

A rewrite pays inside a quantized region alone. Whether a node stands in one is asked of the same search that decides
the plan (`plan.region`), with a line for each operator that has an integer form: it is a follower of its neighbours.
All rewrites ask with all lines, so that one of them does not wait for the other.
"""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

from qcompiler import ir
from qcompiler.passes.plan.region import Region, choose
from qcompiler.quant import QSpec
from qcompiler.targets import Activation, OpRule, Same, TargetSpec

SMALLEST_SLOPE, LARGEST_SLOPE, LARGEST_OFFSET = 1e-3, 1e3, 8.0


def region_with_forms(model: ir.Model, target: TargetSpec, spec: QSpec, keep_float: tuple[str, ...]) -> Region:
    """The nodes that would compute in integers if every node with an integer form were rewritten.

    Raises:
        UsageError: a `keep_float` pattern matches nothing.
    """
    stored = Activation((spec,))
    forms = (
        OpRule("hard-activation", ("HardSwish", "HardSigmoid"), {0: stored}, stored, "", "follow", conditions=(ramp,)),
        OpRule("average-pool", ("AveragePool",), {0: stored}, stored, "", "follow", conditions=(plain_average,)),
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
def plain_average(node: ir.Node) -> str | None:
    """Every window is divided by the same number, and the channels are known."""
    what, attrs = f"AveragePool {node.name!r}", node.attrs
    shape, kernel = node.inputs[0].shape, list(attrs["kernel_shape"])
    if attrs.get("ceil_mode", 0) or attrs.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return f"{what} rounds up or pads by itself"
    if any(attrs.get("pads", [])) and not attrs.get("count_include_pad", 0):
        return f"{what} divides by fewer at the border"
    if shape is None or len(shape) != len(kernel) + 2 or not isinstance(shape[1], int):
        return f"channels of {node.inputs[0].name!r} are not known"
    return None


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
