"""The one pass that turns the plan into nodes.

    site on a tensor        x -> DequantizeLinear(QuantizeLinear(x)), read by every use of x, graph outputs included
    site on a use           the same pair, read by that use; uses with equal encodings share one pair
    constant                integer initializer -> DequantizeLinear
    constant factor         Mul(x, c) of a quantized x -> DequantizeLinear with scale * c
    dynamic activation      DynamicQuantizeLinear, MatMulInteger, Cast, Mul (see `dynamic`)

Codes are computed here, one constant at a time. ONNX opset 21 operators; scales and zero points of activations have
rank 0, as ONNX Runtime demands.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from onnx import helper

from qcompiler import ir
from qcompiler.numerics.affine import quantize
from qcompiler.passes.lower.dynamic import lower_dynamic
from qcompiler.pipeline import GraphPass, PassRecord
from qcompiler.quant import Encoding, PerAxis, QuantPlan, SitePlan


@dataclass(frozen=True)
class Materialise(GraphPass):
    """Writes the plan into the graph.

    Attributes:
        plan: sites with encodings; a site that names nothing in the graph is an error of the compiler.
    """

    name: ClassVar[str] = "materialise"
    plan: QuantPlan

    def apply(self, model: ir.Model, record: PassRecord) -> None:
        """Inserts the nodes; `changes` counts quantized sites."""
        writer = Writer(ir.Editor(model, model.graph))
        nodes = {node.name: node for node in model.nodes}
        dynamic: dict[str, dict[int, SitePlan]] = {}
        for site, decision in self.plan.quantized():
            if site.consumer and self._is_dynamic(site.consumer):
                dynamic.setdefault(site.consumer, {})[site.port] = decision
            elif site.consumer and decision.encoding is not None:
                writer.at_use(nodes[site.consumer], site.port, decision.encoding)
            record.changes += 1
        for name, operands in dynamic.items():
            lower_dynamic(
                writer.edit, nodes[name], writer.codes(nodes[name].inputs[1], operands[1].encoding), writer.shared
            )
        tensors = {tensor.name: tensor for node in model.nodes for tensor in node.outputs}
        for site, decision in self.plan.quantized():
            if not site.consumer and decision.encoding is not None:
                if decision.gain != 1.0:
                    writer.rescale(tensors[site.tensor], decision.encoding)
                else:
                    writer.at_tensor(tensors[site.tensor], decision.encoding)

    def _is_dynamic(self, consumer: str) -> bool:
        return self.plan.nodes[consumer].precision == "w8"


Key = tuple[int, bytes, bytes]


@dataclass(eq=False)
class Writer:
    """Inserts Q/DQ nodes and integer constants, each distinct one once."""

    edit: ir.Editor
    pairs: dict[Key, ir.Tensor] = field(default_factory=dict)
    numbers: dict[tuple[str, bytes], ir.Constant] = field(default_factory=dict)
    shared: dict[str, tuple[ir.Tensor, ir.Tensor, ir.Tensor]] = field(default_factory=dict)

    def at_use(self, node: ir.Node, port: int, encoding: Encoding) -> None:
        """Quantizes one use of a value."""
        tensor = node.inputs[port]
        key = (id(tensor), encoding.scale.tobytes(), encoding.zero_point.tobytes())
        if key not in self.pairs:
            constant = isinstance(tensor, ir.Constant)
            self.pairs[key] = self.constant(tensor, encoding) if constant else self.pair(tensor, encoding)
        self.edit.set_input(node, port, self.pairs[key])

    def at_tensor(self, tensor: ir.Tensor, encoding: Encoding) -> None:
        """Quantizes a value for all its readers."""
        dequantized = self.pair(tensor, encoding)
        pair = [dequantized.inputs[0].inputs[0].inputs[0], dequantized.inputs[0]]
        self.edit.replace_uses(tensor, dequantized, keep=pair)

    def rescale(self, tensor: ir.Tensor, encoding: Encoding) -> None:
        """Replaces Mul(DequantizeLinear(q), constant) by DequantizeLinear(q) with the multiplied scale."""
        node = tensor.inputs[0]
        before = node.inputs[0].inputs[0]
        dequantized = self.dequantize(before.inputs[0], tensor, self.parameters(tensor.name, encoding), encoding)
        self.edit.replace_uses(tensor, dequantized)
        self.edit.erase(node)
        if not self.edit.uses(before.outputs[0]):
            self.edit.erase(before)

    def pair(self, tensor: ir.Tensor, encoding: Encoding) -> ir.Tensor:
        """QuantizeLinear and DequantizeLinear behind `tensor`; gives the dequantized value."""
        parameters = self.parameters(tensor.name, encoding)
        quantized = self.edit.variable(f"{tensor.name}_q", np_dtype(encoding), tensor.shape)
        self.edit.add("QuantizeLinear", [tensor, *parameters], name=f"{tensor.name}_quantize", outputs=[quantized])
        return self.dequantize(quantized, tensor, parameters, encoding)

    def constant(self, tensor: ir.Constant, encoding: Encoding) -> ir.Tensor:
        """An integer initializer in place of `tensor`, and the DequantizeLinear that reads it."""
        codes = self.edit.constant(f"{tensor.name}_q", self.codes(tensor, encoding)[0])
        return self.dequantize(codes, tensor, self.parameters(tensor.name, encoding), encoding)

    def dequantize(
        self, quantized: ir.Tensor, like: ir.Tensor, parameters: list[ir.Tensor], encoding: Encoding
    ) -> ir.Tensor:
        """DequantizeLinear behind `quantized`; its output has the type and shape of `like`."""
        granularity = encoding.spec.granularity
        attrs = {"axis": granularity.axis} if isinstance(granularity, PerAxis) and encoding.scale.ndim else {}
        output = self.edit.variable(f"{like.name}_dq", np.dtype(np.float32), like.shape)
        name = f"{like.name}_dequantize"
        self.edit.add("DequantizeLinear", [quantized, *parameters], name=name, attrs=attrs, outputs=[output])
        return output

    def parameters(self, name: str, encoding: Encoding) -> list[ir.Tensor]:
        """Scale and zero point as initializers; equal ones are shared."""
        return [
            self.number(f"{name}_scale", encoding.scale),
            self.number(f"{name}_zero_point", encoding.zero_point.astype(np_dtype(encoding))),
        ]

    def number(self, hint: str, values: npt.NDArray[Any]) -> ir.Constant:
        """An initializer with these values, made once."""
        key = (f"{values.dtype}{values.shape}", values.tobytes())
        if key not in self.numbers:
            self.numbers[key] = self.edit.constant(hint, values)
        return self.numbers[key]

    def codes(self, tensor: ir.Constant, encoding: Encoding | None) -> tuple[npt.NDArray[Any], npt.NDArray[np.float32]]:
        """Integer codes of a constant, and the scales that go with them."""
        assert encoding is not None
        if encoding.codes is not None:
            return encoding.codes, encoding.scale
        spec, values = encoding.spec, ir.array(tensor)
        axis = spec.granularity.axis if isinstance(spec.granularity, PerAxis) and encoding.scale.ndim else None
        codes = quantize(
            values,
            encoding.scale,
            encoding.zero_point,
            qmin=spec.low,
            qmax=spec.high,
            dtype=np_dtype(encoding),
            axis=axis,
        )
        return codes, encoding.scale


def np_dtype(encoding: Encoding) -> np.dtype[Any]:
    """NumPy type of the codes."""
    return helper.tensor_dtype_to_np_dtype(encoding.spec.qtype.onnx)
