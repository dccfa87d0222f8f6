"""What TensorRT computes in low precision, and where Q and DQ go: the table.

Signed, symmetric, zero point 0; one scale for each activation tensor, one for each output channel of a weight; biases
stay float. Q and DQ stand on the inputs of Conv, Gemm and MatMul, and on the residual input of an Add, never on outputs
(section 0, rules 1 to 4, 8; section 5.1). `source` names the section of the project's TensorRT fact sheet, measured
with tensorrt-rtx 1.7.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from qcompiler.backends.tensorrt.conditions import (
    SMALLEST,
    blocks_of,
    in_attention,
    matrix,
    never,
    not_depthwise,
    not_split,
    skip_at,
    wide_enough,
)
from qcompiler.backends.tensorrt.put import parsed, with_puts
from qcompiler.backends.tensorrt.roofline import ROOFLINES
from qcompiler.backends.tensorrt.variants import GPUS, Gpu
from qcompiler.quant import PerAxis, PerBlock, PerTensor, Precision, QSpec
from qcompiler.quant.qtype import FP4_E2M1, FP8_E4M3, INT4, INT8
from qcompiler.targets import Activation, Float, FloatRule, OpRule, TargetSpec, Weight
from qcompiler.targets.conditions import unscaled_gemm

INT4_BLOCKS = (128, 64, 32)
FP4_BLOCK = 16
HALVES: tuple[Precision, ...] = ("fp16", "bf16")

S8 = Activation((QSpec(INT8, PerTensor(), symmetric=True, scale="f16"),))
S8_WEIGHT = Weight((QSpec(INT8, PerAxis(0), symmetric=True, scale="f16"),))
F8 = Activation((QSpec(FP8_E4M3, PerTensor(), scale="f16"),))
F8_WEIGHT = Weight((QSpec(FP8_E4M3, PerAxis(0), scale="f16"),))
F4 = Activation((QSpec(FP4_E2M1, PerBlock(-1, FP4_BLOCK), scale="e4m3"),))
F4_WEIGHT = Weight((QSpec(FP4_E2M1, PerBlock(0, FP4_BLOCK), scale="e4m3"),))
NO_CACHE = {
    "fp8": "a GPU before sm89 has no such type",
    "int4": "the builder ends in an internal error on it",
}
"""Kinds of caches that are not made: tried with the builder."""


def eight_bits(name: Precision, x: Activation, w: Weight, *, conv: bool, attention: str) -> tuple[OpRule, ...]:
    """Rules for a type of 8 bits; `attention` says where it is measured."""
    channels = SMALLEST + (name == "fp8")  # as NVIDIA's own tool has it: of FP8 more than 16
    turing = () if conv else (never("SM75 computes convolutions in float, and dequantizes weights at every run"),)
    rules = (
        OpRule(
            "conv", ("Conv",), {0: x, 1: w}, Float(), "section 1: Conv; 3.1: conv kernels",
            conditions=(not_depthwise, wide_enough(channels), *turing), computes=name,
        ),
        OpRule("gemm", ("Gemm",), {0: x, 1: w}, Float(), "section 1: MatMul, Gemm; 3.1",
               conditions=(unscaled_gemm, matrix, not_split), computes=name),
        OpRule("attention", ("MatMul",), {0: x, 1: x}, Float(), attention, conditions=(in_attention,), computes=name),
        OpRule("matmul", ("MatMul",), {0: x, 1: w}, Float(), "section 1: MatMul, Gemm; 3.1",
               conditions=(matrix, not_split), computes=name),
    )  # fmt: skip
    # The Add computes in the float type of the graph: only its operand is stored in fewer bits.
    skips = tuple(
        OpRule(
            f"residual-{port}", ("Add",), {port: x}, Float(), "section 5.1, rule 4: the residual input of an Add",
            conditions=(skip_at(port),), computes="fp16",
        )
        for port in (1, 0)
    )  # fmt: skip
    return rules + skips if conv else rules


def weights_only(name: Precision, weight: Weight, source: str, block: int | None = None) -> tuple[OpRule, ...]:
    """Rules for weights of MatMul and Gemm beside float activations."""
    blocks = (not_split,) if block is None else (blocks_of(block, single=True),)
    suffix = "" if block is None else f"-{block}"
    return (
        OpRule(f"weights-gemm{suffix}", ("Gemm",), {1: weight}, Float(), source,
               conditions=(unscaled_gemm, matrix, *blocks), computes=name),
        OpRule(f"weights-matmul{suffix}", ("MatMul",), {1: weight}, Float(), source,
               conditions=(matrix, *blocks), computes=name),
    )  # fmt: skip


def int4() -> tuple[OpRule, ...]:
    """The largest block that fits."""
    source = "section 1: INT4 weight-only, blocks along K, fused into the GEMM"
    found: tuple[OpRule, ...] = ()
    for size in INT4_BLOCKS:
        spec = QSpec(INT4, PerBlock(0, size), symmetric=True, scale="f16")
        found += weights_only("w4", Weight((spec,)), source, size)
    return found


def fp4() -> tuple[OpRule, ...]:
    """Blocks of activations run along the last axis, which is the one that is summed over."""
    source = "section 1: NVFP4, both operands: a native FP4 GEMM"
    return (
        OpRule("fp4-gemm", ("Gemm",), {0: F4, 1: F4_WEIGHT}, Float(), source,
               conditions=(unscaled_gemm, matrix, blocks_of(FP4_BLOCK, single=False)), computes="nvfp4"),
        OpRule("fp4-matmul", ("MatMul",), {0: F4, 1: F4_WEIGHT}, Float(), source,
               conditions=(matrix, not_split, blocks_of(FP4_BLOCK, single=False)), computes="nvfp4"),
    )  # fmt: skip


def schemes(gpu: Gpu) -> Mapping[Precision, tuple[OpRule, ...]]:
    """The rules of a GPU by precision, what it lacks left out."""
    int8 = eight_bits("int8", S8, S8_WEIGHT, conv=gpu.int8_conv, attention="section 3.1: MHA, all of Q, K, P, V")
    found: dict[Precision, tuple[OpRule, ...]] = {"int8": int8}
    mixed = int8
    if gpu.fp8:
        fp8 = eight_bits("fp8", F8, F8_WEIGHT, conv=True, attention="section 3.1: MHA, all of Q, K, P, V")
        found["fp8"] = fp8
        mixed = tuple(rule for rule in int8 if rule.name == "conv" or rule.name.startswith("residual"))
        mixed += tuple(rule for rule in fp8 if rule.name in ("gemm", "attention", "matmul"))
    if gpu.bf16:
        found["w4"] = int4()
    found["w8"] = weights_only("w8", S8_WEIGHT, "section 1: MatMul INT8 W-only per-channel, dequantized in the GEMM")
    if gpu.fp4:
        found["nvfp4"] = fp4()
    found |= {"mixed": mixed, "fp16": ()}
    return MappingProxyType(found | ({"bf16": ()} if gpu.bf16 else {}))


def beside(known: Mapping[Precision, tuple[OpRule, ...]]) -> Mapping[Precision, tuple[OpRule, ...]]:
    """What may stand side by side: an attention is of one type, or no kernel takes it whole (section 3.1)."""
    found = {name: known[name] for name in ("int8", "fp8", "w8") if name in known}
    if "fp8" in found:
        found["int8"] = tuple(rule for rule in found["int8"] if rule.name != "attention")
    return MappingProxyType(found)


FLOAT_RULES = (
    FloatRule(("ConvTranspose",), "TensorRT-RTX computes it in float, and dequantizes its weights at every run", "3.1"),
    FloatRule(
        ("LayerNormalization", "Softmax", "Gelu", "RMSNormalization", "InstanceNormalization"),
        "quantizing its operands adds error and saves nothing", "3.1",
    ),
    FloatRule(("AveragePool", "GlobalAveragePool"), "the builder pools in float; Q in front only costs", "3.1"),
    FloatRule(("MaxPool",), "it moves values: TensorRT moves the Q behind it in front of it", "3.1"),
    FloatRule(("Attention",), "it computes in float16 whatever its operands are", "1"),
    FloatRule(("LSTM", "GRU", "RNN"), "there is no kernel of fewer bits", "1"),
)  # fmt: skip


def spec(variant: str, put: tuple[str, ...] = ()) -> TargetSpec:
    """The table of a variant.

    Args:
        variant: the GPU.
        put: what the user gave nodes by name, "PATTERN=PRECISION".

    Raises:
        UsageError: `put` is not that.
    """
    known = schemes(GPUS[variant])
    puts, sides = parsed(put, known), beside(known)
    known = MappingProxyType({**known, "mixed": with_puts(known["mixed"], puts, known)})
    first = next(iter(sides))
    sides = MappingProxyType(
        {name: with_puts(rules, puts, known if name == first else {name: known[name]}) for name, rules in sides.items()}
    )
    return TargetSpec(
        name="tensorrt",
        summary="TensorRT 10 and 11, TensorRT-RTX",
        variants=MappingProxyType({name: gpu.summary for name, gpu in GPUS.items()}),
        schemes=known,
        float_rules=FLOAT_RULES,
        needs_data=frozenset({"int8", "fp8", "nvfp4", "mixed"} & known.keys()),
        recasts=frozenset(known),
        scans=frozenset(known) - {"bf16"},
        zero_points=False,
        by_name=frozenset({"w4"} & known.keys()),
        roofline=ROOFLINES[variant],
        beside=sides,
    )
