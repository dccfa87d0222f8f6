"""What ONNX Runtime runs in place of a model that it has no kernels for: the same numbers from operators that it has.

    NVFP4 weight          DequantizeLinear(w_q, DequantizeLinear(s_q, factor)) -> its values, a float32 constant
    NVFP4 activation      b = blocks of x, |b| <- max |b| / 6
                          s = e4m3(|b| / factor) * factor                  Cast to FP8 and back
                          v = sign(b) * level(|b / s|) * s                 level: nearest of 0, .5, 1, 1.5, 2, 3, 4, 6
    bfloat16 graph        float32, each result rounded by a Cast to bfloat16 and back
    E4M3 at inputs, outputs   its bits, in bytes (`cache_codes`): ONNX Runtime joins no floats of 8 bits

Nearest with ties to even: the thresholds between the levels of E2M1 are .25, .75, 1.25, 1.75, 2.5, 3.5, 5, and those
whose even neighbour lies above (.75, 1.75, 3.5) belong to it. Each step up is one comparison:

    level(a) = sum over thresholds t of step(t) * [a > t or a >= t]

FP8, INT8 and INT4 run in ONNX Runtime as they are.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from ml_dtypes import bfloat16
from onnx import TensorProto

from qcompiler import ir
from qcompiler.numerics.float_grid import dequantize_float
from qcompiler.passes.lower.cache_codes import TOPS, Codes
from qcompiler.passes.lower.cache_fixed import E4M3
from qcompiler.passes.lower.two_levels import DYNAMIC
from qcompiler.passes.prepare.eliminate_dead import EliminateDead
from qcompiler.pipeline import GraphPass, PassRecord, Pipeline

SINGLE, BF16 = np.dtype(np.float32), np.dtype(bfloat16)
# threshold, step up, whether the threshold itself goes up (ties to even)
LEVELS = (
    (0.25, 0.5, False), (0.75, 0.5, True), (1.25, 0.5, False), (1.75, 0.5, True),
    (2.5, 1.0, False), (3.5, 1.0, True), (5.0, 2.0, False),
)  # fmt: skip


def simulated(model: ir.Model) -> ir.Model:
    """A model that ONNX Runtime runs; the same one where it has all kernels."""
    dynamic = any(node.op == DYNAMIC for node in model.nodes)
    wide = any(t.dtype is not None and np.dtype(t.dtype) == BF16 for node in model.nodes for t in node.outputs)
    bits = any(tensor.dtype == E4M3 for tensor in model.inputs)
    if not (dynamic or wide or bits or any(map(is_stored_fp4, model.nodes))):
        return model
    copy = model.copy()
    steps: list[GraphPass] = [UnpackFp4(), BytesOfCaches(), *([RoundBf16()] if wide else [])]
    Pipeline().graph(copy, [*steps, EliminateDead()])
    return copy


def is_stored_fp4(node: ir.Node) -> bool:
    """Whether a node dequantizes an FP4 constant."""
    if node.op != "DequantizeLinear" or not isinstance(node.inputs[0], ir.Constant):
        return False
    return str(np.dtype(node.inputs[0].dtype)) == "float4_e2m1fn"


@dataclass(frozen=True)
class UnpackFp4(GraphPass):
    """FP4 constants become their values, dynamic FP4 becomes arithmetic."""

    name: ClassVar[str] = "unpack-fp4"

    def apply(self, model: ir.Model, record: PassRecord) -> None:
        """Each place is a change."""
        edit = ir.Editor(model, model.graph)
        for node in model.nodes:
            if is_stored_fp4(node):
                edit.replace_uses(node.outputs[0], edit.constant(f"{node.name}_values", stored_values(node)))
                record.changes += 1
            elif node.op == DYNAMIC:
                for use in edit.uses(node.outputs[0]):
                    assert use.node is not None
                    edit.replace_uses(use.node.outputs[0], emulated(edit, node, use.node.outputs[0]))
                record.changes += 1


def stored_values(node: ir.Node) -> npt.NDArray[np.float32]:
    """The values of an FP4 constant."""
    scale = node.inputs[1]
    values = ir.array(scale) if isinstance(scale, ir.Constant) else stored_scale(scale.inputs[0])
    axis, size = int(node.attrs.get("axis", 1)), int(node.attrs["block_size"])
    return dequantize_float(ir.array(node.inputs[0]), values.astype(np.float32), axis=axis, block_size=size)


def stored_scale(node: ir.Node) -> npt.NDArray[np.float32]:
    """Scales in two levels, as numbers."""
    codes, factor = (ir.array(tensor).astype(np.float32) for tensor in node.inputs[:2])
    return np.asarray(codes * factor, np.float32)


def emulated(edit: ir.Editor, node: ir.Node, like: ir.Tensor) -> ir.Tensor:
    """The values behind dynamic FP4, in float32; `like` has their type and shape."""
    x, factor = node.inputs[0], node.inputs[1]
    size, made = int(node.attrs["block_size"]), _Maker(edit, node.name)
    single = made("Cast", x, to=int(TensorProto.FLOAT))
    blocks = made("Reshape", single, made.constant(np.array([-1, size], np.int64)))
    top = made("ReduceMax", made("Abs", blocks), made.constant(np.array([1], np.int64)), keepdims=1)
    wanted = made("Div", made("Div", top, made.number(6.0)), factor)
    clipped = made("Min", wanted, made.number(448.0))
    rounded = made("Cast", made("Cast", clipped, to=int(TensorProto.FLOAT8E4M3FN)), to=int(TensorProto.FLOAT))
    scale = made("Mul", rounded, factor)
    # a block of zeros, or of values too small for a scale, is 0 whatever it is divided by
    safe = made("Max", scale, made.number(float(np.finfo(np.float32).tiny)))
    size_of = made("Abs", made("Div", blocks, safe))
    level: ir.Tensor | None = None
    for threshold, step, closed in LEVELS:
        above = made("GreaterOrEqual" if closed else "Greater", size_of, made.number(threshold))
        part = made("Mul", made("Cast", above, to=int(TensorProto.FLOAT)), made.number(step))
        level = part if level is None else made("Add", level, part)
    assert level is not None
    values = made("Mul", made("Mul", made("Sign", blocks), level), scale)
    restored = made("Reshape", values, made("Shape", x))
    edit.retype(restored, SINGLE, like.shape)
    return restored


@dataclass(eq=False)
class _Maker:
    """Adds nodes by operator, one output each."""

    edit: ir.Editor
    hint: str
    numbers: dict[float, ir.Constant] = field(default_factory=dict)

    def __call__(self, op: str, *inputs: ir.Tensor, **attrs: Any) -> ir.Tensor:
        output = self.edit.variable(f"{self.hint}_{op.lower()}")
        self.edit.add(op, list(inputs), name=f"{self.hint}_{op.lower()}", attrs=attrs, outputs=[output])
        return output

    def constant(self, values: npt.NDArray[Any]) -> ir.Constant:
        """An initializer."""
        return self.edit.constant(f"{self.hint}_constant", values)

    def number(self, value: float) -> ir.Constant:
        """A float32 number, made once."""
        if value not in self.numbers:
            self.numbers[value] = self.constant(np.asarray(value, np.float32))
        return self.numbers[value]


@dataclass(frozen=True)
class BytesOfCaches(GraphPass):
    """Caches in E4M3 become bytes: past, and what is joined with it."""

    name: ClassVar[str] = "bytes-of-caches"

    def apply(self, model: ir.Model, record: PassRecord) -> None:
        """Each cache is a change."""
        edit = ir.Editor(model, model.graph)
        for past in [tensor for tensor in model.inputs if tensor.dtype == E4M3]:
            (join,) = [use.node for use in edit.uses(past) if use.node is not None and use.node.op == "Concat"]
            codes, whole = join.inputs[1], join.outputs[0]
            (quantizer,) = codes.inputs
            x, scale = quantizer.inputs[:2]
            made = Codes(edit, "fp8", 0, np.dtype(x.dtype), past.name, before=quantizer)
            most = made.number(TOPS["fp8"] * float(ir.array(scale)))
            least = made.number(-float(ir.array(most)))
            clipped = edit.add("Clip", [x, least, most], name=f"{past.name}_clip", before=quantizer).outputs[0]
            stored = edit.variable(f"{past.name}_bits", made.stored, codes.shape)
            made.encode(clipped, scale, stored)
            edit.set_input(join, 1, stored)
            for tensor in (past, whole):
                edit.retype(tensor, made.stored, tensor.shape)
            for use in edit.uses(whole):
                if use.node is not None and use.node.op == "DequantizeLinear":
                    value = replace(made, before=use.node).decode(whole, scale)
                    edit.replace_uses(use.node.outputs[0], value)
            record.changes += 1


@dataclass(frozen=True)
class RoundBf16(GraphPass):
    """bfloat16 becomes float32 that is rounded to bfloat16 behind every node."""

    name: ClassVar[str] = "round-bf16"

    def apply(self, model: ir.Model, record: PassRecord) -> None:
        """Each rounded result is a change."""
        edit = ir.Editor(model, model.graph)
        narrow = [t for t in model.constants() if np.dtype(t.dtype) == BF16]
        for constant in narrow:
            edit.replace_uses(constant, edit.constant(f"{constant.name}_single", ir.array(constant).astype(np.float32)))
        for node in model.nodes:
            if node.op == "Cast" and int(node.attrs["to"]) == TensorProto.BFLOAT16:
                node.attrs["to"] = int(TensorProto.FLOAT)
            for tensor in node.outputs:
                if tensor.dtype is None or np.dtype(tensor.dtype) != BF16:
                    continue
                edit.retype(tensor, SINGLE, tensor.shape)
                made = _Maker(edit, tensor.name)
                small = made("Cast", tensor, to=int(TensorProto.BFLOAT16))
                back = made("Cast", small, to=int(TensorProto.FLOAT))
                edit.retype(small, BF16, tensor.shape)
                edit.retype(back, SINGLE, tensor.shape)
                edit.replace_uses(tensor, back, keep=[small.inputs[0]])
                record.changes += 1
        model.opset = 21 if model.opset == 22 else model.opset
