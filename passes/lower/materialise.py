"""The one pass that turns the plan into nodes.

    site on a tensor        x -> DequantizeLinear(QuantizeLinear(x)), read by every use of x, graph outputs included
    site on a use           the same pair, read by that use; uses with equal encodings share one pair
    constant                integer initializer -> DequantizeLinear
    constant factor         Mul(x, c) of a quantized x -> DequantizeLinear with scale * c
    dynamic activation      DynamicQuantizeLinear, MatMulInteger, Cast, Mul (see `dynamic`)

Codes are computed here, one constant at a time. ONNX opset 21 operators; scales and zero points of activations have
rank 0, as ONNX Runtime demands. Values keep their names, and constants without a reader go.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from qcompiler import ir
from qcompiler.errors import InternalError
from qcompiler.passes.lower.dynamic import lower_dynamic
from qcompiler.passes.lower.writer import Writer
from qcompiler.pipeline import GraphPass, PassRecord
from qcompiler.quant import Encoding, QuantPlan, Site


@dataclass(frozen=True)
class Materialise(GraphPass):
    """Writes the plan into the graph.

    Attributes:
        plan: sites with encodings; a site that names nothing in the graph is an error of the compiler.
    """

    name: ClassVar[str] = "materialise"
    plan: QuantPlan

    def apply(self, model: ir.Model, record: PassRecord) -> None:
        """Inserts the nodes; `changes` counts quantized sites.

        Raises:
            InternalError: a site has no encoding, or names nothing.
        """
        writer = Writer(ir.Editor(model, model.graph))
        nodes = {node.name: node for node in model.nodes}
        dynamic: dict[str, Encoding] = {}
        for site, decision in self.plan.quantized():
            if not site.consumer:
                continue
            node = nodes.get(site.consumer)
            if node is None or site.port >= len(node.inputs) or node.inputs[site.port].name != site.tensor:
                raise InternalError("a site of the plan names nothing in the graph", where=str(site))
            if self.plan.nodes[site.consumer].precision != "w8":
                writer.at_use(node, site.port, _encoding(site, decision.encoding))
            elif site.port == 1:
                dynamic[site.consumer] = _encoding(site, decision.encoding)
            record.changes += 1
        for name, encoding in dynamic.items():
            node = nodes[name]
            transposed = node.op == "Gemm" and bool(node.attrs.get("transB", 0))
            weight = writer.matrix(node.inputs[1], encoding, transposed)
            lower_dynamic(writer.edit, node, writer.dynamic(node.inputs[0]), weight)
        tensors = {tensor.name: tensor for node in model.nodes for tensor in node.outputs}
        for site, decision in self.plan.quantized():
            if site.consumer:
                continue
            if site.tensor not in tensors:
                raise InternalError("a site of the plan names nothing in the graph", where=str(site))
            tensor, encoding = tensors[site.tensor], _encoding(site, decision.encoding)
            if decision.gain != 1.0:
                writer.rescale(tensor, encoding)
            else:
                writer.at_tensor(tensor, encoding)
            record.changes += 1
        if record.changes:
            writer.edit.drop_unused_constants()


def _encoding(site: Site, encoding: Encoding | None) -> Encoding:
    if encoding is None:
        raise InternalError("a quantized site has no encoding", where=str(site))
    return encoding
