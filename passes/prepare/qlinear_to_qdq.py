"""QLinearConv(x_q, w_q) -> Q(Conv(DQ(x_q), DQ(w_q))): operators on codes in the form that all other passes know.

    operands      DQ(codes, scale, zero point) in front of the float operator of the same name
    int32 bias    DQ(bias, scale(x) * scale(w), 0): the grid that it is stored on
    result        Q(y, scale, zero point) behind it
    movement      MaxPool, Reshape, Transpose ... of codes -> the same of values, between DQ and Q of one grid

What moves or picks values does the same to codes, since Q never changes which of two values is larger; so codes are the
same before and after. Arithmetic in between is float where it was fixed point, and differs by a rounding of the result
here and there. Operands of elementwise operators and pools are those of ONNX Runtime's `quantize_static` in the format
QOperator. Every target may then take the encodings over (`adopt_qdq`), or refuse the model by rules of its own.

Operator specifications: ONNX (QLinearConv, QLinearMatMul), ONNX Runtime's contrib operators (all others).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

import numpy as np

from qcompiler import ir
from qcompiler.pipeline import GraphPass, PassRecord
from qcompiler.rewrite import Refusal

CODES = (np.dtype(np.int8), np.dtype(np.uint8))
Grid = tuple[ir.Constant, ir.Constant | None]
"""Scale and zero point."""


@dataclass(frozen=True)
class Form:
    """How an operator on codes has its operands.

    Attributes:
        op: the operator on values.
        operands: the ports of codes, scale and zero point of each operand; `None` for any number of them behind the
            result's.
        result: the ports of the result's scale and zero point.
        bias: the port of an int32 bias; -1 for none.
        own: attributes that `op` does not have.
    """

    op: str
    operands: tuple[tuple[int, int, int], ...] | None
    result: tuple[int, int]
    bias: int = -1
    own: frozenset[str] = frozenset({"channels_last"})


ONE, TWO = ((0, 1, 2),), ((0, 1, 2), (3, 4, 5))
FORMS = MappingProxyType(
    {
        "QLinearConv": Form("Conv", TWO, (6, 7), bias=8),
        "QLinearMatMul": Form("MatMul", TWO, (6, 7)),
        "QGemm": Form("Gemm", TWO, (7, 8), bias=6),
        "QLinearAdd": Form("Add", TWO, (6, 7)),
        "QLinearMul": Form("Mul", TWO, (6, 7)),
        "QLinearConcat": Form("Concat", None, (0, 1)),
        "QLinearSigmoid": Form("Sigmoid", ONE, (3, 4)),
        "QLinearLeakyRelu": Form("LeakyRelu", ONE, (3, 4)),
        "QLinearAveragePool": Form("AveragePool", ONE, (3, 4)),
        "QLinearGlobalAveragePool": Form("GlobalAveragePool", ONE, (3, 4)),
        "QLinearSoftmax": Form("Softmax", ONE, (3, 4), own=frozenset({"opset"})),
    }
)
MOVES = frozenset(
    {
        "MaxPool", "Reshape", "Transpose", "Gather", "Slice", "Squeeze", "Unsqueeze", "Flatten", "Split", "Resize",
        "Pad",
    }
)  # fmt: skip


@dataclass(frozen=True)
class QlinearToQdq(GraphPass):
    """Rewrites the main graph and all inside; what has no such form stays and is refused with the reason."""

    name: ClassVar[str] = "qlinear-to-qdq"

    def apply(self, model: ir.Model, record: PassRecord) -> None:
        """Each operator is a change."""
        for edit in ir.editors(model):
            if not any(node.op in FORMS for node in edit.graph.nodes):
                continue
            edit.sort()
            known: dict[int, Grid] = {}
            for node in list(edit.graph.nodes):
                if node.op in FORMS:
                    reason = expanded(edit, node, known)
                    if reason is None:
                        record.changes += 1
                    else:
                        record.refusals.append(Refusal(self.name, node.name, reason))
                elif node.op == "QuantizeLinear" and not node.attrs.get("block_size"):
                    grid = grid_of(node, 1, 2)
                    if not isinstance(grid, str) and not len(grid[0].shape):
                        known[id(node.outputs[0])] = grid
                elif node.op in MOVES and id(node.inputs[0]) in known and moved(edit, node, known):
                    record.changes += 1


def expanded(edit: ir.Editor, node: ir.Node, known: dict[int, Grid]) -> str | None:
    """Makes one operator on codes one on values; the reason where it must stay."""
    form = FORMS[node.op]
    ports = form.operands or [(port, port + 1, port + 2) for port in range(2, len(node.inputs), 3)]
    grids: list[Grid] = []
    for codes, scale, zero in ports:
        grid = grid_of(node, scale, zero)
        if isinstance(grid, str):
            return grid
        if node.inputs[codes].dtype is not None and np.dtype(node.inputs[codes].dtype) not in CODES:
            return f"{node.inputs[codes].name!r} has no codes of 8 bits"
        grids.append(grid)
    if node.attrs.get("channels_last", 0):
        return "channels come last"
    if form.op == "Softmax" and int(node.attrs.get("opset", 13)) < 13:
        return "it is the Softmax of opsets before 13"
    bias = input_at(node, form.bias)
    if bias is not None and not isinstance(bias, ir.Constant):
        return f"bias {bias.name!r} is computed"
    result: Grid | None = None
    if input_at(node, form.result[0]) is not None:
        grid = grid_of(node, *form.result)
        if isinstance(grid, str):
            return grid
        result = grid
    weight_axis = {"Conv": 0, "Gemm": 0 if node.attrs.get("transB", 0) else 1}.get(form.op, -1)
    values = [
        dequantized(edit, node, node.inputs[codes], grid, weight_axis if place else -2)
        for place, ((codes, *_), grid) in enumerate(zip(ports, grids, strict=True))
    ]
    if bias is not None:
        scale = edit.constant(f"{bias.name}_scale", bias_scale(grids))
        values.append(dequantized(edit, node, bias, (scale, None), -1))
    first = node.inputs[ports[0][0]]
    become(edit, node, form, values)
    if result is not None:
        quantized(edit, node, result, first, known)
    return None


def moved(edit: ir.Editor, node: ir.Node, known: dict[int, Grid]) -> bool:
    """Makes an operator that moves codes one that moves values; whether it is one."""
    if node.op == "Resize" and node.attrs.get("mode", "nearest") != "nearest":
        return False
    codes = node.inputs[0]
    grid = known[id(codes)]
    if node.op == "Pad" and node.attrs.get("mode", "constant") == "constant":
        filler = input_at(node, 2)
        if not (filler is None or isinstance(filler, ir.Constant)):
            return False
        edit.set_input(node, 2, edit.constant(f"{node.name}_filler", filling(filler, grid)))
    edit.set_input(node, 0, dequantized(edit, node, codes, grid, -1))
    for output in list(node.outputs[:1] if node.op == "MaxPool" else node.outputs):
        quantized(edit, node, grid, codes, known, output)
    return True


def become(edit: ir.Editor, node: ir.Node, form: Form, values: Sequence[ir.Tensor]) -> None:
    """Turns the node into the operator on values; it keeps its name."""
    for name in form.own & node.attrs.keys():
        del node.attrs[name]
    node.op, node.domain = form.op, ""
    edit.set_inputs(node, list(values))


def dequantized(edit: ir.Editor, node: ir.Node, codes: ir.Tensor, grid: Grid, axis: int) -> ir.Tensor:
    """The values of codes; `axis` counts where the grid has a scale for each index of one."""
    scale, zero = grid
    attrs = {}
    if len(scale.shape):
        rank = 0 if codes.shape is None else len(codes.shape)
        attrs["axis"] = axis % rank if rank else axis
    value = edit.variable(f"{codes.name}_values", np.float32, codes.shape)
    inputs = [codes, scale] if zero is None else [codes, scale, zero]
    edit.add("DequantizeLinear", inputs, name=f"{node.name}_dequantize", attrs=attrs, outputs=[value], before=node)
    return value


def quantized(
    edit: ir.Editor, node: ir.Node, grid: Grid, like: ir.Tensor, known: dict[int, Grid], result: ir.Tensor | None = None
) -> None:
    """Puts Q between a node and what reads its codes; they keep their tensor."""
    codes = node.outputs[0] if result is None else result
    value = edit.variable(f"{codes.name}_values", np.float32, codes.shape)
    edit.set_outputs(node, [value if output is codes else output for output in node.outputs])
    scale, zero = grid
    if zero is None:
        zero = edit.constant(f"{codes.name}_zero", np.zeros((), like.dtype or np.uint8))
    edit.add("QuantizeLinear", [value, scale, zero], name=f"{node.name}_quantize", outputs=[codes])
    known[id(codes)] = scale, zero


def filling(codes: ir.Constant | None, grid: Grid) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """The value of the code that an edge is filled with; it is 0 where none is given."""
    scale, zero = grid
    code = 0 if codes is None else ir.array(codes).astype(np.int32).reshape(())
    point = 0 if zero is None else ir.array(zero).astype(np.int32).reshape(())
    return np.asarray((code - point) * ir.array(scale).reshape(()), np.float32)


def grid_of(node: ir.Node, scale: int, zero: int) -> Grid | str:
    """Scale and zero point at two ports, or why they cannot be used."""
    scales, zeros = input_at(node, scale), input_at(node, zero)
    if not isinstance(scales, ir.Constant) or not (zeros is None or isinstance(zeros, ir.Constant)):
        return f"scale or zero point of {node.name!r} is computed"
    if len(scales.shape) > 1 or (zeros is not None and len(zeros.shape) != len(scales.shape)):
        return f"scale {scales.name!r} has shape {list(scales.shape)}"
    return scales, zeros


def bias_scale(grids: Sequence[Grid]) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """The scale of a bias: that of the products."""
    x, w = (ir.array(scale) for scale, _ in grids)
    return np.asarray(x.reshape(()) * w if x.size == 1 else x * w, np.float32)


def input_at(node: ir.Node, port: int) -> ir.Tensor | None:
    """What is read at a port; None where nothing is."""
    return node.inputs[port] if 0 <= port < len(node.inputs) and node.inputs[port].name else None
