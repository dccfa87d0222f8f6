"""An optimised graph of ONNX Runtime as the traps look at it: who computes a value, who reads it, and its type.

ONNX Runtime saves no types of inner values, so they are followed from the zero points: Q and the QLinear operators give
the type of their output's zero point, DequantizeLinear gives float, operators that move values keep the type. Names of
its own that end in a suffix lead back to the node of ours that they came from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

from qcompiler import ir
from qcompiler.backends.onnxruntime.inspect import origin

MOVES = frozenset(
    {
        "MaxPool", "NhwcMaxPool", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Slice", "Split", "Gather",
        "DepthToSpace", "Expand", "Tile", "Resize", "Pad", "Identity",
    }
)  # fmt: skip
EIGHT_BIT = frozenset({TensorProto.INT8, TensorProto.UINT8})
SIXTEEN_BIT = frozenset({TensorProto.INT16, TensorProto.UINT16})

# Where the zero point of the output stands; QLinearConv and QLinearMatMul alike.
_OUTPUT_ZERO_POINT = {
    "QuantizeLinear": 2, "QLinearConv": 7, "QLinearMatMul": 7, "QGemm": 8, "QLinearAdd": 7, "QLinearMul": 7,
    "QLinearSigmoid": 4, "QLinearLeakyRelu": 4, "QLinearSoftmax": 4, "QLinearAveragePool": 4,
    "QLinearGlobalAveragePool": 4, "QLinearConcat": 1, "QLinearWhere": 8,
}  # fmt: skip


@dataclass(eq=False)
class View:
    """See the module.

    Attributes:
        graph: as ONNX Runtime runs it.
        constants: initializers by name.
        producers: node by the name of its result.
        types: element types (`TensorProto`) of values, as far as known.
    """

    graph: GraphProto
    source: ir.Model

    def __post_init__(self) -> None:
        self.constants: Mapping[str, TensorProto] = {t.name: t for t in self.graph.initializer}
        self.producers: Mapping[str, NodeProto] = {out: node for node in self.graph.node for out in node.output if out}
        self.types: dict[str, int] = {v.name: v.type.tensor_type.elem_type for v in self.graph.input}
        self.types |= {name: t.data_type for name, t in self.constants.items()}
        for node in self.graph.node:
            kind = self._type(node)
            if kind is not None:
                self.types.update(dict.fromkeys(filter(None, node.output), kind))
        self._ours = {node.name: node for node in self.source.all_nodes()}
        self._makers = {t.name: node.name for node in self.source.all_nodes() for t in node.outputs if t.name}

    def _type(self, node: NodeProto) -> int | None:
        if node.op_type in _OUTPUT_ZERO_POINT:
            port = _OUTPUT_ZERO_POINT[node.op_type]
            if len(node.input) > port and node.input[port] in self.types:
                return self.types[node.input[port]]
            if node.op_type == "QGemm" and len(node.input) <= port:
                return int(TensorProto.FLOAT)
            return int(attribute(node, "output_dtype", 0) or TensorProto.UINT8)
        if node.op_type == "DequantizeLinear":
            return int(TensorProto.FLOAT)
        if node.op_type in MOVES and node.input:
            return self.types.get(node.input[0])
        return None

    def type(self, node: NodeProto, port: int = 0) -> int | None:
        """The element type of an input; None where it is not known, or there is no such input."""
        return self.types.get(node.input[port]) if len(node.input) > port else None

    def dequantizer(self, node: NodeProto, port: int = 0) -> NodeProto | None:
        """The DequantizeLinear that computes an input."""
        found = self.producers.get(node.input[port]) if len(node.input) > port else None
        return found if found is not None and found.op_type == "DequantizeLinear" else None

    def constant(self, node: NodeProto, port: int) -> npt.NDArray[Any] | None:
        """The values of a constant input that lies in the graph itself."""
        tensor = self.constants.get(node.input[port]) if len(node.input) > port else None
        if tensor is None or tensor.data_location == TensorProto.EXTERNAL:
            return None
        return np.asarray(numpy_helper.to_array(tensor))

    def dequantized_weights(self, node: NodeProto) -> NodeProto | None:
        """The DequantizeLinear that computes the weights of a node, of constants, at every run."""
        found = self.dequantizer(node, 1)
        return found if found is not None and found.input[0] in self.constants else None

    def name(self, node: NodeProto) -> str:
        """The node of ours that became `node`, by its name or by the name of its result; else the name as it is."""
        name = origin(node)
        if name in self._ours:
            return name
        candidates = (name, *node.output)
        return next((self._makers[value] for value in candidates if value in self._makers), name or node.op_type)

    def ours(self, node: NodeProto) -> ir.Node | None:
        """The node of ours that became `node`."""
        return self._ours.get(self.name(node))

    def channels_last(self, node: NodeProto) -> bool:
        """Whether a node of the NHWC region computes its first input: up through what keeps the layout."""
        for _ in range(50):
            found = self.producers.get(node.input[0]) if node.input else None
            if found is None:
                return False
            if found.op_type == "Transpose":
                return list(attribute(found, "perm", [])) == [0, 2, 3, 1]
            if attribute(found, "channels_last", 0) or found.op_type == "NhwcMaxPool":
                return True
            if found.op_type in ("QuantizeLinear", "DequantizeLinear", "Resize") or found.op_type.startswith("QLinear"):
                node = found
                continue
            return False
        return False


def attribute(node: NodeProto, name: str, default: Any) -> Any:
    """The value of an attribute."""
    return next((helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)
