"""What Core ML stores and computes in few bits: the table.

    w8           int8 weights by output channel, activations in float16
    w8a8         int8 x int8 in the patterns that the Neural Engine takes: conv, linear, add, pools, each with the
                 activation behind it; activations symmetric by tensor, attention core and normalisations in float16
    w4-palette   weights as indices into 16 values found by k-means; groups of 16 channels from iOS 18 on
    w6-palette   the same with 64 values
    w4-block     int4 matrices in blocks of 32 along the inputs, other weights as w8; GPU and CPU, iOS 18
    mixed        w8a8 for convolutions, adds and pools, w8 for matrices

Scales are rounded to float16 before codes are computed, since the package stores them so (fact sheet, section 2.5).
"""

from __future__ import annotations

import math
from types import MappingProxyType

import numpy as np

from qcompiler import ir
from qcompiler.backends.coreml.variants import variants
from qcompiler.passes.prepare import LOOPS
from qcompiler.quant import PerAxis, PerBlock, PerGroup, PerTensor, QSpec
from qcompiler.quant.qtype import INT4, INT8, PALETTE4, PALETTE6, QType
from qcompiler.targets import (
    REST,
    Activation,
    Condition,
    Float,
    FloatRule,
    Operand,
    OpRule,
    Output,
    Same,
    TargetSpec,
    Weight,
    channel_axis,
    reduced_axis,
)

S8 = QSpec(INT8, PerTensor(), symmetric=True, scale="half")
ACTIVATION = Activation((S8,))
W8 = Weight((QSpec(INT8, PerAxis(0), symmetric=True, scale="half"),))
BLOCK, GROUP = 32, 16
W4 = Weight((QSpec(INT4, PerBlock(0, BLOCK), symmetric=True, scale="half"),))

KV_CACHE = (
    "states hold float16 alone, and inputs hold int8 only from iOS 26 on; --state 'past.*=present.*:512' keeps a cache "
    "of 512 tokens in float16"
)
"""Tried with the compiler."""
SMALLEST = 6.0e-7
"""A scale below it loses half a bit and more in float16."""
WORTH = 2048
"""Weights with fewer numbers are not worth 4 bits: Apple's own threshold."""
FUSED = ("Relu", "Clip", "LeakyRelu", "Tanh", "Sigmoid", "HardSigmoid")
PATTERNS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "AveragePool", "MaxPool", "Concat"})
CARRIES = frozenset({*FUSED, "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze"})


# ---- conditions
def weight_port(node: ir.Node) -> int:
    """Where the weight stands."""
    return 0 if node.op == "Gather" else 1


def fits_half(node: ir.Node) -> str | None:
    """The scales of the weight are large enough for float16."""
    weight = node.inputs[weight_port(node)]
    scale = float(np.abs(ir.array(weight)).max(initial=0.0)) / 127
    if 0 < scale < SMALLEST:
        return f"weight {weight.name!r} has a scale of {scale:.1e}; float16 does not hold it"
    return None


def whole_groups(node: ir.Node) -> str | None:
    """ConvTranspose without groups: its channels by group share an axis."""
    return f"{node.op} {node.name!r} has groups" if int(node.attrs.get("group", 1)) != 1 else None


def matrix(node: ir.Node) -> str | None:
    """The weight has rank 2."""
    weight = node.inputs[weight_port(node)]
    rank = len(weight.shape or ())
    return None if rank == 2 else f"weight {weight.name!r} of {node.op} {node.name!r} has rank {rank}, not 2"


def table(node: ir.Node) -> str | None:
    """Gather of rows of a constant table."""
    if int(node.attrs.get("axis", 0)) or not isinstance(node.inputs[0], ir.Constant):
        return f"Gather {node.name!r} does not take rows of a constant"
    return matrix(node)


def plain_gemm(node: ir.Node) -> str | None:
    """`linear` has neither alpha nor a transposed input."""
    if float(node.attrs.get("alpha", 1.0)) != 1.0 or node.attrs.get("transA", 0):
        return f"Gemm {node.name!r} has alpha or transA"
    return None


def worth_four(node: ir.Node) -> str | None:
    """The weight is large, and no depthwise kernel, which 16 values serve badly."""
    weight = node.inputs[weight_port(node)]
    size = math.prod(weight.shape)
    if size < WORTH:
        return f"weight {weight.name!r} has {size} numbers; under {WORTH} 8 bits cost little"
    if int(node.attrs.get("group", 1)) != 1:
        return f"{node.op} {node.name!r} has groups; its few weights by channel want 8 bits"
    return None


def divisible(node: ir.Node) -> str | None:
    """Whole blocks along the inputs."""
    weight = node.inputs[weight_port(node)]
    n = int(weight.shape[reduced_axis(node)])
    return None if n % BLOCK == 0 else f"{n} inputs of {weight.name!r} are no multiple of the block of {BLOCK}"


def in_groups(node: ir.Node) -> str | None:
    """Whole groups of channels."""
    weight = node.inputs[weight_port(node)]
    n = int(weight.shape[channel_axis(node)])
    return None if n % GROUP == 0 else f"{n} channels of {weight.name!r} are no multiple of the group of {GROUP}"


def feeds_pattern(node: ir.Node) -> str | None:
    """Something reads the result in int8: a pattern behind reshapes and the activation."""
    waiting, seen = list(node.outputs[0].outputs), set[int]()
    while waiting:
        reader = waiting.pop()
        if reader.op in PATTERNS and not reader.domain:
            return None
        if reader.op in CARRIES and id(reader) not in seen:
            seen.add(id(reader))
            waiting += reader.outputs[0].outputs
    return f"nothing reads the result of {node.op} {node.name!r} in int8"


# ---- rules
def weights(name: str, spec: Weight, computes: str, source: str, *extra: Condition) -> tuple[OpRule, ...]:
    """The operators with a constant weight, that alone in few bits."""
    rows: tuple[tuple[str, tuple[str, ...], tuple[Condition, ...]], ...] = (
        ("conv", ("Conv",), ()),
        ("conv-transpose", ("ConvTranspose",), (whole_groups,)),
        ("gemm", ("Gemm",), (plain_gemm, matrix)),
        ("matmul", ("MatMul",), (matrix,)),
        ("table", ("Gather",), (table,)),
    )
    return tuple(
        OpRule(
            f"{name}-{row}",
            ops,
            {weight_port_of(ops[0]): spec},
            Float(),
            source,
            computes=computes,
            conditions=(*conditions, *extra, fits_half),
        )
        for row, ops, conditions in rows
    )


def weight_port_of(op: str) -> int:
    """Where the weight of an operator stands."""
    return 0 if op == "Gather" else 1


PATTERN = "section 2.4: patterns of Apple's activation quantizer; int8 x int8 on A17 Pro and M4"
W8_SOURCE = "section 2.1: int8 by output channel, taken by every unit"
W8_RULES = weights("w8", W8, "w8", W8_SOURCE)


def pattern(name: str, *ops: str, inputs: dict[int, Operand], output: Output, conditions: tuple[Condition, ...] = (),
            follow: bool = False) -> OpRule:  # fmt: skip
    """A line of w8a8."""
    return OpRule(
        name, ops, inputs, output, PATTERN, role="follow" if follow else "anchor", absorbs=FUSED, explicit=True,
        computes="w8a8", conditions=conditions,
    )  # fmt: skip


def both(name: str, op: str, *conditions: Condition) -> tuple[OpRule, OpRule]:
    """An anchor with its result in int8 where something reads it so, else in float16."""
    inputs: dict[int, Operand] = {0: ACTIVATION, 1: W8}
    stored = pattern(name, op, inputs=inputs, output=ACTIVATION, conditions=(*conditions, fits_half, feeds_pattern))
    last = pattern(f"{name}-last", op, inputs=inputs, output=Float(), conditions=(*conditions, fits_half))
    return stored, last


MOVES = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose")
FOLLOWERS = (
    pattern("add", "Add", inputs={0: ACTIVATION, 1: ACTIVATION}, output=ACTIVATION, follow=True),
    pattern("average-pool", "AveragePool", inputs={0: ACTIVATION}, output=ACTIVATION, follow=True),
    OpRule(
        "max-pool", ("MaxPool",), {0: ACTIVATION}, Same(), PATTERN, role="follow", computes="w8a8", stored=True,
    ),
    OpRule(
        "concat", ("Concat",), {REST: ACTIVATION}, ACTIVATION, "section 2.4: concat takes int8 of one scale",
        role="follow", computes="w8a8",
    ),
    OpRule(
        "move", MOVES, {0: ACTIVATION}, Same(), "section 2.4: reshape and transpose take int8", role="follow",
        computes="w8a8",
    ),
)  # fmt: skip
CONVOLUTIONS = both("conv", "Conv")
MATRICES = (*both("linear", "Gemm", plain_gemm, matrix), *both("matmul", "MatMul", matrix))
REMAINDER = tuple(rule for rule in W8_RULES if rule.ops[0] in ("ConvTranspose", "Gather"))

PALETTE_SOURCE = "section 2.4: palettes are what the Neural Engine takes at 4 bits"
BLOCK_SOURCE = "section 2.1: constexpr_blockwise_shift_scale, iOS 18"

FLOAT_RULES = (
    FloatRule(
        ("Softmax", "LayerNormalization", "Gelu", "Sigmoid", "Mul", "HardSwish"),
        "Core ML quantizes conv, linear, add and pools; this stays float16", "section 2.4",
    ),
    FloatRule(("GlobalAveragePool", "ReduceMean"), "means are no pattern of the Neural Engine's int8", "section 2.4"),
    FloatRule(("LSTM", "GRU", "RNN"), "weights of recurrent layers stay float: MIL wants them dense", "section 4"),
)  # fmt: skip


def by_palette(name: str, qtype: QType, os: int) -> tuple[OpRule, ...]:
    """Weights by palettes: for groups of channels from iOS 18 on where they are whole, else one in all."""
    one = Weight((QSpec(qtype, PerTensor(), scale="half"),))
    tables = weights(name, one, name, PALETTE_SOURCE, worth_four)
    if os < 18:
        return tables
    several = Weight((QSpec(qtype, PerGroup(0, GROUP), scale="half"),))
    return (*weights(f"{name}-groups", several, name, PALETTE_SOURCE, worth_four, in_groups), *tables)


def schemes(os: int) -> dict[str, tuple[OpRule, ...]]:
    """The rules of each precision; those that an OS or unit refuses stand here, too (`variants`)."""
    blocks = [
        rule
        for rule in weights("block", W4, "w4-block", BLOCK_SOURCE, worth_four, divisible)
        if not rule.ops[0].startswith("Conv")
    ]
    return {
        "fp16": (),
        "fp32": (),
        "w8": W8_RULES,
        "w8a8": (*CONVOLUTIONS, *MATRICES, *FOLLOWERS, *REMAINDER),
        "w4-palette": (*by_palette("w4-palette", PALETTE4, os), *W8_RULES),
        "w6-palette": (*by_palette("w6-palette", PALETTE6, os), *W8_RULES),
        "w4-block": (*blocks, *W8_RULES),
        "mixed": (*CONVOLUTIONS, *FOLLOWERS, *W8_RULES),
    }


RELIEF = {"w8a8": ("w8",), "w4-palette": ("w6-palette", "w8"), "w6-palette": ("w8",), "w4-block": ("w8",)}
"""What groups may be in that a precision asked for by name harms too much."""


def spec(os: int) -> TargetSpec:
    """The table for an OS."""
    found = schemes(os)
    return TargetSpec(
        name="coreml",
        summary="Core ML, an .mlpackage checked by evaluating what was saved",
        variants=MappingProxyType(variants()),
        schemes=MappingProxyType(found),
        refuses=MappingProxyType({"kv_cache": KV_CACHE}),
        float_rules=FLOAT_RULES,
        shapes="bounded",
        needs_data=frozenset({"w8a8", "mixed"}),
        by_name=frozenset(name for name in found if name.startswith(("w4", "w6"))),
        recasts=frozenset(found),
        lacks=LOOPS,
        concat_ratio=math.inf,
        beside=MappingProxyType({precision: found[precision] for precision in ("w8a8", "w8")}),
        relief=MappingProxyType({p: {name: found[name] for name in RELIEF[p]} for p in RELIEF.keys() & found.keys()}),
    )


SPECS: MappingProxyType[int, TargetSpec] = MappingProxyType({os: spec(os) for os in (16, 17, 18)})
