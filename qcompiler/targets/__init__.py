"""The shape of a target's description: types only."""

from qcompiler.targets.roofline import Roofline
from qcompiler.targets.spec import (
    REST,
    Activation,
    Bias,
    Condition,
    Float,
    FloatRule,
    Operand,
    OpRule,
    Output,
    Same,
    Scaled,
    TargetSpec,
    Weight,
    channel_axis,
    reduced_axis,
)

__all__ = [
    "REST",
    "Activation",
    "Bias",
    "Condition",
    "Float",
    "FloatRule",
    "OpRule",
    "Operand",
    "Output",
    "Roofline",
    "Same",
    "Scaled",
    "TargetSpec",
    "Weight",
    "channel_axis",
    "reduced_axis",
]
