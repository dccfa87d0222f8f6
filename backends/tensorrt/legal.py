"""What TensorRT refuses, or takes and then gets wrong: repaired where that is possible, else refused by name.

Runs last, on what ships, so that a model that arrived with Q and DQ of its own is judged like ours. Repairs keep the
numbers. Sections are those of the fact sheet.

| form                                                | what becomes of it                                           |
|-----------------------------------------------------|--------------------------------------------------------------|
| constant > Transpose, Reshape, Gather > DQ (rule 10)| DQ first; with many scales where they follow an axis, else   |
|                                                     | refused                                                      |
| Q, DQ about one product of an attention (rule 9)    | removed: half of an attention is not fused                   |
| zero point that is not 0; uint8, 16 bits (1)        | refused                                                      |
| int32 behind DQ (rule 4)                            | the bias as float                                            |
| scale that is not positive (1)                      | refused                                                      |
| scales of blocks beside a quantized activation (6.2)| refused: the builder uses those of the first block only      |
| types that the GPU lacks (1)                        | refused                                                      |
| integer and dynamic operators, QLinear* (1)         | refused                                                      |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from qcompiler import ir
from qcompiler.backends.tensorrt.attention import partner
from qcompiler.backends.tensorrt.variants import Gpu
from qcompiler.errors import ModelError
from qcompiler.numerics.affine import dequantize
from qcompiler.passes.prepare.purity import GRID
from qcompiler.pipeline import GraphPass, PassRecord

MOVES = frozenset({"Transpose", "Reshape", "Gather", "Slice", "Squeeze", "Unsqueeze"})
INTEGER = frozenset(
    {"DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger", "QAttention", "QGemm"}
)  # fmt: skip
STORED = frozenset({"int8", "int4", "float8_e4m3fn", "float4_e2m1fn"})
HINT = "give the float model, and quantize it with --target tensorrt"


@dataclass(frozen=True)
class Legalise(GraphPass):
    """See the module.

    Attributes:
        gpu: which one the model is for.
    """

    name: ClassVar[str] = "tensorrt-legal"
    gpu: Gpu

    def apply(self, model: ir.Model, record: PassRecord) -> None:
        """Repairs are changes with a note each.

        Raises:
            ModelError: a form that cannot be repaired; the message names the node.
        """
        edit = ir.Editor(model, model.graph)
        for repair in (float_bias, whole_attention, dequantize_last):
            for node in model.nodes:
                said = repair(edit, node) if edit.holds(node) else None
                if said is not None:
                    record.changes += 1
                    record.notes.append(f"{node.op} {node.name!r}: {said}")
        edit.drop_unused_constants()
        for node in model.all_nodes():
            for check in (
                no_integer_operator, stored_type, zero_points, scales, moved_codes, one_scale_a_row, self.known_type,
            ):  # fmt: skip
                reason = check(node)
                if reason is not None:
                    raise ModelError(reason, where=f"{node.op} {node.name!r}", hint=HINT)

    def known_type(self, node: ir.Node) -> str | None:
        """Types that came with later GPUs."""
        lacking = {
            name
            for name, known in (
                ("float8_e4m3fn", self.gpu.fp8), ("float4_e2m1fn", self.gpu.fp4), ("int4", self.gpu.bf16),
                ("bfloat16", self.gpu.bf16),
            )
            if not known
        }  # fmt: skip
        found = next((dtype_of(t) for t in [*node.inputs, *node.outputs] if dtype_of(t) in lacking), None)
        return f"sm{self.gpu.sm} has no {found}" if found else None


# ---- repairs
def float_bias(edit: ir.Editor, node: ir.Node) -> str | None:
    """int32 constants behind DQ become float."""
    if node.op != "DequantizeLinear" or dtype_of(node.inputs[0]) != "int32":
        return None
    codes, scale = node.inputs[0], node.inputs[1]
    if not isinstance(codes, ir.Constant) or not isinstance(scale, ir.Constant):
        return None
    axis = int(node.attrs.get("axis", 1)) if len(scale.shape) else None
    numbers = dequantize(ir.array(codes), ir.array(scale).astype(np.float32), 0, axis=axis)
    values = numbers.astype(np.dtype(node.outputs[0].dtype or np.float32))
    edit.replace_uses(node.outputs[0], edit.constant(f"{codes.name}_float", values))
    edit.erase(node)
    return "int32 bias became float: TensorRT takes no other"


def whole_attention(edit: ir.Editor, node: ir.Node) -> str | None:
    """Pairs in front of one product of an attention go where those of the other one are missing."""
    if node.op != "MatMul":
        return None
    other = partner(node)
    if other is None or not any(pair(t) for t in node.inputs) or all(pair(t) for t in [*node.inputs, *other.inputs]):
        return None
    for port, tensor in enumerate(node.inputs):
        source = pair(tensor)
        if source is not None:
            edit.set_input(node, port, source)
            for dead in (tensor.inputs[0], tensor.inputs[0].inputs[0].inputs[0]):
                if edit.holds(dead) and not any(edit.uses(result) for result in dead.outputs):
                    edit.erase(dead)
    return f"is float: {other.name!r}, the other product of the attention, is not quantized whole"


def pair(tensor: ir.Tensor) -> ir.Tensor | None:
    """What a Q and DQ pair, which computes `tensor`, reads."""
    behind = tensor.inputs[0] if tensor.inputs else None
    if behind is None or behind.op != "DequantizeLinear" or not behind.inputs[0].inputs:
        return None
    before = behind.inputs[0].inputs[0]
    return before.inputs[0] if before.op == "QuantizeLinear" else None


def dequantize_last(edit: ir.Editor, node: ir.Node) -> str | None:
    """A quantized constant that is moved before it is dequantized: the movement goes behind, Gather for one."""
    if node.op not in MOVES or node.domain or not isinstance(node.inputs[0], ir.Constant):
        return None
    codes, readers = node.inputs[0], list(node.outputs[0].outputs)
    if dtype_of(codes) not in STORED or [reader.op for reader in readers] != ["DequantizeLinear"]:
        return None
    (reader,) = readers
    scale, attrs = reader.inputs[1], {key: value for key, value in reader.attrs.items() if key == "output_dtype"}
    if not isinstance(scale, ir.Constant) or reader.attrs.get("block_size", 0):
        return None
    if len(scale.shape):
        axis = axis_before(node, int(reader.attrs.get("axis", 1)))
        if axis is None:
            return None  # the scales would have to be moved, too
        attrs["axis"] = axis
    out = reader.outputs[0]
    value = edit.variable(f"{codes.name}_dq", out.dtype, codes.shape)
    inputs = [codes, *reader.inputs[1:]]
    edit.set_outputs(reader, [])
    edit.add("DequantizeLinear", inputs, name=f"{codes.name}_dequantize", attrs=attrs, outputs=[value], before=node)
    edit.set_input(node, 0, value)
    edit.set_outputs(node, [out])
    edit.erase(reader)
    return "moves values in place of codes: nothing stands between a quantized constant and its DequantizeLinear"


def axis_before(node: ir.Node, axis: int) -> int | None:
    """Which axis of the constant becomes an axis of what is moved, index for index; None where none does."""
    source, result = node.inputs[0].shape, node.outputs[0].shape
    if result is None:
        return None
    rank, axis = len(source), axis % len(result)
    match node.op:
        case "Transpose":
            return int(node.attrs.get("perm", range(rank)[::-1])[axis])
        case "Gather":
            at, more = int(node.attrs.get("axis", 0)) % rank, len(result) - rank
            return axis if axis < at else axis - more if axis > at + more else None
        case "Slice":
            return axis if source[axis] == result[axis] and not reverses(node) else None
    return None


def reverses(node: ir.Node) -> bool:
    """Whether a Slice goes backwards, or may."""
    steps = node.inputs[4] if len(node.inputs) > 4 and node.inputs[4].name else None
    return steps is not None and not (isinstance(steps, ir.Constant) and (ir.array(steps) > 0).all())


# ---- refusals
def moved_codes(node: ir.Node) -> str | None:
    """What `dequantize_last` could not put in order."""
    if node.op not in MOVES or node.domain or not isinstance(node.inputs[0], ir.Constant):
        return None
    readers = [reader.op for reader in node.outputs[0].outputs]
    if dtype_of(node.inputs[0]) not in STORED or "DequantizeLinear" not in readers:
        return None
    return (
        f"quantized constant {node.inputs[0].name!r} is moved in front of DequantizeLinear, whose scales would have to "
        "move with it: TensorRT takes DequantizeLinear on the constant itself alone"
    )


def no_integer_operator(node: ir.Node) -> str | None:
    """Operators on integers, and quantization as values come."""
    integer = node.op in INTEGER or node.op.startswith("QLinear")
    return "TensorRT has no such operator: it takes QuantizeLinear and DequantizeLinear alone" if integer else None


def stored_type(node: ir.Node) -> str | None:
    """Codes are int8, int4, FP8 E4M3 or FP4 E2M1."""
    if node.op not in GRID:
        return None
    tensor = node.outputs[0] if node.op == "QuantizeLinear" else node.inputs[0]
    found = dtype_of(tensor)
    return f"TensorRT stores no {found}: {tensor.name!r}" if found and found not in STORED else None


def zero_points(node: ir.Node) -> str | None:
    """Zero points are constants, and 0."""
    if node.op not in GRID or len(node.inputs) < 3 or not node.inputs[2].name:
        return None
    point = node.inputs[2]
    if not isinstance(point, ir.Constant):
        return f"zero point {point.name!r} is computed"
    return f"zero point {point.name!r} is not 0: quantization is symmetric" if ir.array(point).any() else None


def scales(node: ir.Node) -> str | None:
    """Scales are positive."""
    if node.op not in GRID or not isinstance(node.inputs[1], ir.Constant):
        return None
    values = ir.array(node.inputs[1]).astype(np.float32)
    return f"scale {node.inputs[1].name!r} is not positive" if not (values > 0).all() else None


def one_scale_a_row(node: ir.Node) -> str | None:
    """Blocks of weights beside a quantized activation compile, and compute with the scales of the first block."""
    if node.op not in ("MatMul", "Gemm", "Conv") or len(node.inputs) < 2:
        return None
    makers = [maker_of(tensor) for tensor in node.inputs[:2]]
    if any(maker is None or maker.op != "DequantizeLinear" for maker in makers):
        return None
    for maker in makers:
        assert maker is not None
        if maker.attrs.get("block_size") and dtype_of(maker.inputs[0]) != "float4_e2m1fn":
            return "weights in blocks beside a quantized activation: TensorRT would use the scales of one block for all"
    return None


def maker_of(tensor: ir.Tensor) -> ir.Node | None:
    """What computes a value, behind Casts."""
    while tensor.inputs and tensor.inputs[0].op == "Cast":
        tensor = tensor.inputs[0].inputs[0]
    return tensor.inputs[0] if tensor.inputs else None


def dtype_of(tensor: ir.Tensor) -> str:
    """Name of the type; empty where it is unknown."""
    return "" if not tensor.name or tensor.dtype is None else str(np.dtype(tensor.dtype))
