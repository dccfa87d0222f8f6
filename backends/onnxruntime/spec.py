"""What ONNX Runtime's CPU provider computes in integers, and what pays: the table.

Every line was measured on ONNX Runtime 1.31 (x86-64, AVX512-VNNI, one thread) by looking at the optimised graph and
at the clock; `source` names the section of the project's ONNX Runtime fact sheet.
"""

from __future__ import annotations

from types import MappingProxyType

import numpy as np

from qcompiler import ir
from qcompiler.quant import PerAxis, PerTensor, QSpec
from qcompiler.quant.qtype import INT8, UINT8
from qcompiler.targets import REST, Activation, Bias, FloatRule, OpRule, Same, Scaled, TargetSpec, Weight
from qcompiler.targets import Float as StaysFloat
from qcompiler.targets.conditions import nearest, no_indices, plain_gemm

# uint8 activations with any zero point, int8 weights with zero point 0: the only pair with VNNI kernels (rules 1, 2).
U8 = QSpec(UINT8, PerTensor())
U8_DYNAMIC = QSpec(UINT8, PerTensor(), dynamic=True)
S8_CHANNEL = QSpec(INT8, PerAxis(0), symmetric=True)
ACTIVATION = Activation((U8,))
WEIGHT = Weight((S8_CHANNEL,))


def matrix_weight(node: ir.Node) -> str | None:
    """The integer matrix kernels take a constant second operand of rank 2."""
    weight = node.inputs[1]
    if not isinstance(weight, ir.Constant):
        return f"both operands of {node.op} {node.name!r} are computed; the integer kernel is no faster than float"
    if len(weight.shape) != 2:
        return f"weight {weight.name!r} of {node.op} {node.name!r} has rank {len(weight.shape)}, not 2"
    return None


def at_most_rank_4(node: ir.Node) -> str | None:
    """A 5-D Transpose of uint8 runs a generic, slow kernel."""
    shape = node.inputs[0].shape
    return (
        f"{node.op} {node.name!r} works on rank {len(shape)}; the uint8 kernel is slow"
        if len(shape or ()) > 4
        else None
    )


def unit_steps(node: ir.Node) -> str | None:
    """A Slice with steps is 2.4 times slower on uint8 than on float."""
    if len(node.inputs) < 5 or not node.inputs[4].name:
        return None
    steps = node.inputs[4]
    if isinstance(steps, ir.Constant) and (abs(ir.array(steps)) == 1).all():
        return None
    return f"Slice {node.name!r} has steps other than 1"


def positive_factor(node: ir.Node) -> str | None:
    """The second operand is one positive constant, the first is computed and has the shape of the result."""
    x, factor = node.inputs[0], node.inputs[1]
    if isinstance(x, ir.Constant) or not isinstance(factor, ir.Constant):
        return f"Mul {node.name!r} is not by a constant"
    if factor.dtype != np.float32 or int(np.prod(factor.shape)) != 1:
        return f"factor {factor.name!r} of Mul {node.name!r} is not one float32 number"
    if len(factor.shape) and (x.shape is None or len(factor.shape) > len(x.shape)):
        return f"factor {factor.name!r} of Mul {node.name!r} may add dimensions"
    value = float(ir.array(factor).item())
    extreme = not 1e-6 < value < 1e6 or value == 1
    return f"factor {value:g} of Mul {node.name!r} is not positive, or extreme, or 1" if extreme else None


SMALL_LSTM = 1 << 14
"""Numbers in W and R of one direction up to which the float kernel is as fast."""


def plain_lstm(node: ir.Node) -> str | None:
    """Default activations, no clip, peepholes or input_forget, layout 0, and so many weights that integers pay."""
    what, attrs = f"LSTM {node.name!r}", node.attrs
    direction, hidden = attrs.get("direction", "forward"), attrs.get("hidden_size")
    default = ["sigmoid", "tanh", "tanh"] * (2 if direction == "bidirectional" else 1)
    if [str(name).lower() for name in attrs.get("activations", default)] != default:
        return f"{what} has activations of its own"
    own = [
        name for name in ("activation_alpha", "activation_beta", "clip", "input_forget", "layout") if attrs.get(name)
    ]
    if own:
        return f"{what} has {own[0]}"
    if len(node.inputs) > 7 and node.inputs[7].name:
        return f"{what} has peepholes"
    w, r = node.inputs[1], node.inputs[2]
    directions = 2 if direction == "bidirectional" else 1
    fits = len(w.shape) == len(r.shape) == 3 and w.shape[0] == r.shape[0] == directions
    if not fits or w.shape[1] != r.shape[1] or r.shape[1] != 4 * r.shape[2] or hidden not in (None, r.shape[2]):
        return f"weights of {what} have shapes {list(w.shape)} and {list(r.shape)}"
    numbers = r.shape[1] * (w.shape[2] + r.shape[2])
    return f"{what} is small; the integer kernel is no faster than float" if numbers < SMALL_LSTM else None


RELU = ("Relu", "Clip")

INT8_RULES = (
    OpRule(
        "conv", ("Conv",), {0: ACTIVATION, 1: WEIGHT, 2: Bias()}, ACTIVATION,
        "rules 1, 3, 4, 5; section 2.1: QLinearConv, 2.2 to 3.9 times float", absorbs=RELU,
    ),
    OpRule(
        "gemm", ("Gemm",), {0: ACTIVATION, 1: WEIGHT, 2: Bias()}, StaysFloat(),
        "rules 5, 9; section 2.2: QGemm with an int32 bias and a float output", conditions=(plain_gemm, matrix_weight),
    ),
    OpRule(
        "matmul", ("MatMul",), {0: ACTIVATION, 1: WEIGHT}, StaysFloat(),
        "rule 9; section 2.2: MatMulIntegerToFloat, 3.2 to 3.5 times float", conditions=(matrix_weight,),
    ),
    OpRule(
        "rescale", ("Mul",), {0: ACTIVATION}, Scaled(0, 1),
        "rule 16: a constant factor goes into the scale that reads the value", role="follow",
        conditions=(positive_factor,),
    ),
    OpRule(
        "arithmetic", ("Add", "Mul"), {0: ACTIVATION, 1: ACTIVATION}, ACTIVATION,
        "rules 11, 15; section 2.3: QLinearAdd, QLinearMul", role="follow", absorbs=RELU,
    ),
    OpRule(
        "concat", ("Concat",), {REST: ACTIVATION}, ACTIVATION,
        "rule 11; section 2.4: QLinearConcat, equal scales 11 us, unequal 33 us", role="follow",
    ),
    OpRule(
        "global-pool", ("GlobalAveragePool",), {0: ACTIVATION}, ACTIVATION,
        "rule 11; section 2.3: QLinearGlobalAveragePool, 1 to 4 times float", role="follow",
    ),
    OpRule(
        "activation", ("Sigmoid", "LeakyRelu"), {0: ACTIVATION}, ACTIVATION,
        "rule 11; section 2.3: QLinearSigmoid, QLinearLeakyRelu", role="follow",
    ),
    OpRule(
        "max-pool", ("MaxPool",), {0: ACTIVATION}, Same(),
        "rule 12; section 2.3: NhwcMaxPool beside a QLinearConv", role="follow", stored=True, conditions=(no_indices,),
    ),
    OpRule(
        "resize", ("Resize",), {0: ACTIVATION}, Same(),
        "rule 11; section 2.4: nearest Resize on uint8", role="follow", conditions=(nearest,),
    ),
    OpRule(
        "slice", ("Slice",), {0: ACTIVATION}, Same(),
        "section 4: data movement with equal encodings runs on uint8", role="follow", conditions=(unit_steps,),
    ),
    OpRule(
        "move", ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Split", "Gather", "DepthToSpace"),
        {0: ACTIVATION}, Same(),
        "section 4: data movement with equal encodings runs on uint8", role="follow", conditions=(at_most_rank_4,),
    ),
)  # fmt: skip

W8_RULES = (
    OpRule(
        "dynamic-matrix", ("MatMul", "Gemm"),
        {0: Activation((U8_DYNAMIC,)), 1: WEIGHT}, StaysFloat(),
        "section 2.2: DynamicQuantizeMatMul, 2.2 to 5.5 times float", conditions=(plain_gemm, matrix_weight),
    ),
    OpRule(
        "dynamic-lstm", ("LSTM",), {0: Activation((U8_DYNAMIC,)), 1: WEIGHT, 2: WEIGHT}, StaysFloat(),
        "section 2.3: DynamicQuantizeLSTM, 2.1 to 3.4 times float", conditions=(plain_lstm,),
    ),
)  # fmt: skip

FLOAT_RULES = (
    FloatRule(("Softmax", "LogSoftmax"), "QLinearSoftmax is 6 times slower than float", "rule 10"),
    FloatRule(("AveragePool",), "QLinearAveragePool is 12 to 20 times slower than float", "rule 10"),
    FloatRule(
        ("LayerNormalization", "RMSNormalization", "Gelu", "Erf", "Tanh", "Div", "Sub", "ReduceMean", "PRelu", "Pad"),
        "there is no integer kernel; Q and DQ around it cost more than they save", "rule 10, section 2.3",
    ),
    FloatRule(("ConvTranspose",), "there is no integer kernel (0.9 times float with Q and DQ)", "section 2.1"),
    FloatRule(("LSTM",), "there is no static integer kernel; w8 and mixed quantize it as it runs", "rule 10"),
    FloatRule(("GRU", "RNN"), "there is no integer kernel, static or dynamic", "rule 10, section 2.3"),
    FloatRule(("HardSwish", "HardSigmoid"), "there is no integer kernel", "section 2.3"),
)  # fmt: skip

SPEC = TargetSpec(
    name="onnxruntime",
    summary="ONNX Runtime, CPU execution provider",
    channel_mul=True,
    variants=MappingProxyType(
        {
            "vnni": "x86-64 with AVX512-VNNI or AVX-VNNI",
            "avx2": "x86-64 with AVX2 or AVX512, without VNNI: weights that do not saturate int16",
            "arm64": "64-bit Arm, int8 activations",
        }
    ),
    schemes=MappingProxyType({"int8": INT8_RULES, "w8": W8_RULES, "mixed": (*INT8_RULES, *W8_RULES), "w4": ()}),
    float_rules=FLOAT_RULES,
    needs_data=frozenset({"int8", "mixed"}),
    by_name=frozenset({"w4"}),
    on_disk=frozenset({"w4"}),
    beside=MappingProxyType({"int8": INT8_RULES, "w8": W8_RULES}),
)
