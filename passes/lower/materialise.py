"""The one pass that turns the plan into nodes.

    site on a tensor        x -> DequantizeLinear(QuantizeLinear(x)), read by every use of x, graph outputs included
    site on a use           the same pair, read by that use; uses with equal encodings share one pair
    constant                integer initializer -> DequantizeLinear, or index of a palette -> Gather
    blocks with a book      index -> Gather(book) -> DequantizeLinear; 3 bits have one: they lie in a wider type
    scales in bytes         of blocks (see `two_levels`), opset 23 or 24
    constant factor         Mul(x, c) of a quantized x -> DequantizeLinear with scale * c
    dynamic activation      DynamicQuantizeLinear, MatMulInteger, Cast, Mul (see `dynamic`); DynamicQuantizeLSTM
                            (see `dynamic_lstm`)

Codes are computed here, one constant at a time. ONNX opset 21 operators but for DynamicQuantizeLSTM; scales and zero
points of activations have rank 0, as ONNX Runtime demands. Values keep their names, and constants without a reader go.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from qcompiler import ir
from qcompiler.errors import InternalError
from qcompiler.passes.lower.dynamic import lower_dynamic
from qcompiler.passes.lower.dynamic_lstm import lower_dynamic_lstm
from qcompiler.passes.lower.two_levels import OPSETS, in_bytes
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
        found = [decision.encoding for _, decision in self.plan.quantized() if decision.encoding is not None]
        needed = [OPSETS[encoding.spec.scale] for encoding in found if in_bytes(encoding)]
        model.opset = max(model.opset, *needed, 0)  # 22 to 24 add types to operators of 21, and change none
        nodes = {node.name: node for node in model.nodes}
        dynamic: dict[str, dict[int, Encoding]] = {
            site.consumer: {} for site, decision in self.plan.quantized() if decision.choice and decision.choice.dynamic
        }
        for site, decision in self.plan.quantized():
            if not site.consumer:
                continue
            node = nodes.get(site.consumer)
            if node is None or site.port >= len(node.inputs) or node.inputs[site.port].name != site.tensor:
                raise InternalError("a site of the plan names nothing in the graph", where=str(site))
            if site.consumer not in dynamic:
                writer.at_use(node, site.port, _encoding(site, decision.encoding))
            elif not (decision.choice is not None and decision.choice.dynamic):
                dynamic[site.consumer][site.port] = _encoding(site, decision.encoding)
            record.changes += 1
        for name, encodings in dynamic.items():
            _lower(writer, nodes[name], encodings)
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


def _lower(writer: Writer, node: ir.Node, encodings: Mapping[int, Encoding]) -> None:
    """Replaces a node that quantizes its activations as they come; `encodings` are those of its weights, by port."""
    if node.op == "LSTM":
        w, r = (writer.lstm_weight(node.inputs[port], encodings[port]) for port in (1, 2))
        lower_dynamic_lstm(writer.edit, node, w, r)
        return
    transposed = node.op == "Gemm" and bool(node.attrs.get("transB", 0))
    weight = writer.matrix(node.inputs[1], encodings[1], transposed)
    lower_dynamic(writer.edit, node, writer.dynamic(node.inputs[0]), weight)


def _encoding(site: Site, encoding: Encoding | None) -> Encoding:
    if encoding is None:
        raise InternalError("a quantized site has no encoding", where=str(site))
    return encoding
