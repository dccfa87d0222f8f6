"""What the Hexagon tensor processor computes in integers: the table, by architecture.

Every line was measured with QAIRT 2.51 in Qualcomm's x86 emulation by single operators; `source` names the section of
the project's QNN fact sheet. A node between DequantizeLinear and QuantizeLinear that does not fit runs in float16
without a word, so whatever the processor computes in integers is quantized: there are no followers.

    w8a8    uint8 activations, int8 weights          w4a8    the same with int4 weights
    w8a16   uint16 activations, int8 weights         w4a16   the same with int4 weights
    fp16    nothing is quantized
    mixed   w8a8, w8a16 for the nodes that `--a16` names, float16 for those that `--keep-float` names; where that loses
            too much, the search chooses among the three for the others
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from qcompiler.backends.qnn import conditions as only
from qcompiler.backends.qnn.socs import FLOAT16, SIGNED16, SOCS
from qcompiler.quant import PerAxis, PerBlock, PerTensor, Precision, QSpec
from qcompiler.quant.qtype import INT4, INT8, INT16, UINT8, UINT16
from qcompiler.targets import (
    REST,
    Activation,
    Bias,
    Condition,
    FloatRule,
    Operand,
    OpRule,
    Output,
    Same,
    TargetSpec,
    Weight,
)
from qcompiler.targets import Float as StaysFloat
from qcompiler.targets.conditions import nearest, no_indices, plain_gemm

U8, U16 = QSpec(UINT8, PerTensor()), QSpec(UINT16, PerTensor())
S16 = QSpec(INT16, PerTensor(), symmetric=True)
S8_CHANNEL, S8_TENSOR = QSpec(INT8, PerAxis(0), symmetric=True), QSpec(INT8, PerTensor(), symmetric=True)
S4_CHANNEL = QSpec(INT4, PerAxis(0), symmetric=True)
BLOCK = 32
S4_BLOCK = QSpec(INT4, PerBlock(0, BLOCK), symmetric=True)
FLOAT_KERNELS = frozenset({"matmul-blocks"})
"""Rules whose kernel takes integers apart and computes in float16."""
GAMMA = BYTES = Activation((U8,))

Names = tuple[str, ...]
Inputs = Mapping[int, Operand]

ARITHMETIC = ("Add", "Sub", "Mul", "Div", "Min", "Max", "Pow")
COMPARISONS = ("Greater", "Less", "GreaterOrEqual", "LessOrEqual")
POOLS = ("MaxPool", "GlobalMaxPool")
MOVES = (
    "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Slice", "Split", "Gather", "GatherElements",
    "DepthToSpace", "SpaceToDepth", "Expand", "Tile",
)  # fmt: skip
SHARES = "rule 7: in and out share the encoding"
UNARY = (
    "Relu", "Sigmoid", "Tanh", "Abs", "Neg", "Sqrt", "Exp", "Ceil", "Floor", "Round", "Sign", "Sin", "Cos", "Elu",
    "LeakyRelu", "HardSwish", "HardSigmoid", "Softplus", "Selu", "Mish", "Atan", "ThresholdedRelu",
    "LogSoftmax", "Softmax", "Gelu", "Clip", "LpNormalization",
)  # fmt: skip


FUSED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "Sub", "Mul"})
"""What computes a Relu or Clip behind it: ONNX Runtime drops it where the grid of the result says the same."""


@dataclass(frozen=True)
class Kinds:
    """What values are stored as.

    Attributes:
        name: of the precision.
        value: activations.
        second: the second operand of a product of two activations.
        weight: of Conv and of matrices, best first.
        blocks: matrices of products have a scale for each block of a column.
        cache: a cache of keys and values is stored in bytes.
    """

    name: Precision
    value: QSpec
    second: QSpec
    weight: tuple[QSpec, ...]
    blocks: bool = False
    cache: bool = False

    @property
    def wide(self) -> bool:
        """16-bit activations."""
        return self.value.qtype.bits == 16


def kinds(precision: Precision, arch: int, blocks: bool = False, cache: bool = False) -> Kinds:
    """Of w8a8, w8a16, w4a8 or w4a16; `blocks` and `cache` where they are wished."""
    value = U16 if precision.endswith("a16") else U8
    second = S16 if value is U16 and arch >= SIGNED16 else value
    narrow = precision.startswith("w4")
    blocks = blocks and narrow and value is U16 and arch >= FLOAT16
    return Kinds(precision, value, second, (S4_CHANNEL if narrow else S8_CHANNEL,), blocks, cache)


def rules(kind: Kinds) -> tuple[OpRule, ...]:
    """The table of one precision."""
    x, w = Activation((kind.value,)), Weight(kind.weight)
    bytes_too = (U8,) if kind.cache and kind.wide else ()

    def rule(name: str, ops: Names, inputs: Inputs, output: Output, source: str, *needs: Condition) -> OpRule:
        absorbs = ("Relu", "Clip") if set(ops) & FUSED else ()
        return OpRule(name, ops, inputs, output, source, absorbs=absorbs, conditions=needs, computes=kind.name)

    both = (
        rule("conv", ("Conv",), {0: x, 1: w, 2: Bias()}, x, "rule 4, section 2.1"),
        rule("conv-transpose", ("ConvTranspose",), {0: x, 1: w, 2: Bias()}, x, "rule 4, section 2.2", only.one_group),
        rule(
            "conv-transpose-grouped", ("ConvTranspose",), {0: x, 1: Weight((S8_TENSOR,)), 2: Bias()}, x,
            "section 2.2: per-tensor weights, as channels of groups are not one axis",
        ),
        rule("gemm", ("Gemm",), {0: x, 1: w, 2: Bias()}, x, "rule 4, section 2.1", plain_gemm, only.matrix_weight),
        rule("matmul", ("MatMul",), {0: x, 1: w}, x, "rule 4, section 2.1", only.matrix_weight),
        rule(
            "product", ("MatMul",), {0: x, 1: Activation((kind.second, *bytes_too))}, x,
            "rule 6: a uint16 second operand is cut to 8 bits, int16 with zero point 0 is not" if kind.wide else
            "section 2.2: MatMul dyn",
        ),
        rule("layer-norm", ("LayerNormalization",), {0: x, 1: GAMMA, 2: Bias(0, 1)}, x, "rule 7", only.whole_norm),
        rule("instance-norm", ("InstanceNormalization",), {0: x, 1: GAMMA, 2: Bias(0, 1)}, x, "section 2.2"),
        rule("arithmetic", ARITHMETIC, {REST: x}, x, "section 2.2", only.two_operands),
        rule("prelu", ("PRelu",), {0: x, 1: GAMMA}, x, "section 2.3: slopes in uint8; uint16 ones do not finalize"),
        rule("unary", UNARY, {0: x}, x, "section 2.2"),
        rule("where", ("Where",), {1: x, 2: x}, x, "section 2.2"),
        rule("compare", COMPARISONS, {0: x, 1: x}, StaysFloat(), "section 2.2"),
        rule("argmax", ("ArgMax", "ArgMin"), {0: x}, StaysFloat(), "section 2.2"),
        rule("concat", ("Concat",), {REST: x}, x, "rule 7: independent encodings are taken"),
        rule("pool", ("AveragePool", "GlobalAveragePool"), {0: x}, x, "section 2.2"),
        rule("max-pool", POOLS, {0: x}, Same(), SHARES, no_indices),
        rule("reduce", ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin"), {0: x}, x, "section 2.2"),
        rule("interpolate", ("Resize",), {0: x}, x, "section 2.2", only.interpolating),
        rule("resize", ("Resize",), {0: x}, Same(), SHARES, nearest),
        rule("grid-sample", ("GridSample",), {0: x, 1: x}, x, "section 2.2"),
        rule("pad", ("Pad",), {0: x}, Same(), "section 2.2", only.pads_zero),
        rule("move", MOVES, {0: Activation((kind.value, *bytes_too))}, Same(), SHARES, only.at_most_rank_5),
    )  # fmt: skip
    narrow = (
        rule("narrow", ("Log",), {0: x}, x, "section 3: right with 8 bits, wrong with 16"),
        rule("einsum", ("Einsum",), {REST: x}, x, "section 2.2: taken with 8 bits, refused with 16"),
        rule("lrn", ("LRN",), {0: x}, x, "section 2.2: taken with 8 bits, refused with 16"),
    )
    wide = (rule("running-sum", ("CumSum",), {0: x}, x, "section 3: right with 16 bits, wrong with 8"),)
    blocks = (
        rule(
            "matmul-blocks", ("MatMul",), {0: x, 1: Weight((S4_BLOCK,))}, x,
            "section 2.1: 68 dB where one scale for each column gives 63; a float16 kernel", only.whole_blocks(BLOCK),
        ),
    )  # fmt: skip
    join = rule("cache", ("Concat",), {REST: BYTES}, BYTES, "a step reads what the last one gave", only.adds_to_cache)
    caches = (replace(join, shares=True),) if kind.cache else ()
    return (*caches, *(blocks if kind.blocks else ()), *both, *(wide if kind.wide else narrow))


def apart(table: tuple[OpRule, ...], chosen: Condition | None = None) -> tuple[OpRule, ...]:
    """The rules as `mixed` has them, for some nodes only if so wished.

    A Relu stays a node of its own: with a conversion behind it ONNX Runtime does not drop it, and the Conv before it
    has no Q left that makes it integer (probes of small graphs).
    """
    own = () if chosen is None else (chosen,)
    return tuple(
        replace(rule, name=f"{rule.name}-{rule.computes}", absorbs=(), conditions=(*rule.conditions, *own))
        for rule in table
    )


FLOAT_RULES = (
    FloatRule(("Log",), "it compiles with 16-bit activations and is wrong: kept in float16", "section 3"),
    FloatRule(("CumSum",), "it compiles with 8-bit activations and is wrong: kept in float16", "section 3"),
    FloatRule(("ScatterElements", "ScatterND"), "it is wrong where encodings differ: kept in float16", "section 3"),
    FloatRule(("GroupNormalization",), "its integer form breaks the compile: kept in float16", "section 2.2"),
    FloatRule(("Einsum", "LRN"), "refused with 16-bit activations: kept in float16", "section 2.3"),
    FloatRule(("LSTM", "GRU", "TopK"), "its integer form runs in float16 inside", "section 2.2"),
    FloatRule(("OneHot",), "quantized values are refused: kept in float16", "section 2.3"),
)  # fmt: skip

LACKS = frozenset(
    {
        "Acos", "Acosh", "Asin", "Asinh", "Atanh", "Celu", "Cosh", "Det", "Erf", "GlobalLpPool", "Hardmax", "Mod",
        "NonZero", "Reciprocal", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceProd", "ReduceSumSquare",
        "Shrink", "Sinh", "Softsign", "Trilu",
    }
)  # fmt: skip
"""Refused in float: sections 2.2 and 2.3, the rest by probes of single nodes. Asin is taken with 8 bits, at 14 dB.
ReduceL2 is taken and computes in float16, whatever stands around it; square, sum and root are integers.

Reciprocal compiles and is wrong where its operand stays below 1: the provider gives the 1 that it divides the grid of
the operand, which ends before (probes of single nodes: 3 dB; Div of a constant 1 with a grid of its own 70 dB).
"""

LACKS_WITHOUT_FLOAT = frozenset({"GroupNormalization"})
"""What is computed in float16 alone has no form on a chip without floating point."""

SUMMARY = "Qualcomm Hexagon (HTP) through ONNX Runtime's QNN provider: context binaries"
VARIANTS = MappingProxyType({soc.name: str(soc) for soc in SOCS.values()})


def table(arch: int, chosen: Condition | None = None, *, blocks: bool = False, cache: bool = False) -> TargetSpec:
    """The table for an architecture.

    Args:
        arch: 68 stands for v68.
        chosen: None for the nodes that `mixed` gives 16-bit activations; by default no node.
        blocks: w4a16 stores matrices of products by blocks.
        cache: a cache of keys and values is stored in bytes.
    """
    schemes = {name: rules(kinds(name, arch, blocks, cache)) for name in ("w8a8", "w8a16", "w4a8", "w4a16")}
    wide = apart(schemes["w8a16"], chosen or only.nothing)
    schemes |= {"mixed": (*wide, *apart(schemes["w8a8"])), "fp16": ()}
    beside = {"w8a8": schemes["mixed"], "w8a16": apart(schemes["w8a16"])}
    recasts, lacks = frozenset({"fp16"}), LACKS
    if arch < FLOAT16:
        del schemes["fp16"]
        recasts, lacks = frozenset(), LACKS | LACKS_WITHOUT_FLOAT
    return TargetSpec(
        name="qnn", summary=SUMMARY, variants=VARIANTS, schemes=MappingProxyType(schemes), float_rules=FLOAT_RULES,
        needs_data=frozenset(schemes) - {"fp16"}, recasts=recasts, lacks=lacks, shapes="fixed", several_shapes=True,
        beside=MappingProxyType(beside), float_beside=arch >= FLOAT16,
    )  # fmt: skip
