"""Runs nodes whose inputs are constants, many in one ONNX Runtime session with optimisation off.

Small constants are initializers of the session's model, so that shape inference can read them; large ones are fed, so
that they are not copied. Where a session fails its nodes are halved, until the node that is to blame is found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import GraphProto, ModelProto, TypeProto, ValueInfoProto, helper, numpy_helper

from qcompiler import ir
from qcompiler.passes.prepare.infer_shapes import run_inference

Array = npt.NDArray[Any]
SMALL = 1024
"""Bytes up to which a constant is part of the session's model."""
NATIVE = {np.dtype(t) for t in (bool, np.float16, np.float32, np.float64, np.int8, np.int16, np.int32, np.int64)} | {
    np.dtype(t) for t in (np.uint8, np.uint16, np.uint32, np.uint64)
}
"""Types that ONNX Runtime takes from NumPy and gives back; strings are the other one."""
FAILURES = 32
"""Sessions that may fail before the rest is given up."""


def infer_types(model: ir.Model, nodes: Sequence[ir.Node]) -> dict[str, TypeProto]:
    """The types of what `nodes` compute, as they follow from the constants alone; empty where inference fails."""
    proto, _ = _submodel(model, nodes, {}, [])
    return {info.name: info.type for info in run_inference(proto).value_info}


@dataclass
class Evaluation:
    """The values of nodes of one graph.

    Attributes:
        edit: editor of the graph.
        values: results by tensor id, with the tensor.
        failed: nodes that ONNX Runtime could not run, by name, and why.
        failures: sessions that failed.
    """

    edit: ir.Editor
    values: dict[int, tuple[ir.Tensor, Array]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    failures: int = 0

    def run(self, nodes: Sequence[ir.Node]) -> None:
        """Computes what is used outside `nodes`, which are in topological order."""
        members = {id(node) for node in nodes}
        wanted = [
            tensor
            for node in nodes
            for tensor in node.outputs
            if tensor.name and any(use.node is None or id(use.node) not in members for use in self.edit.uses(tensor))
        ]
        known = {key: value for key, (_, value) in self.values.items()}
        try:
            results = _compute(*_submodel(self.edit.model, nodes, known, wanted))
        except Exception as error:  # the exceptions of ONNX Runtime have no common root
            self.failures += 1
            if len(nodes) == 1:
                reason = str(error).strip().partition("\n")[0]
                self.failed[nodes[0].name] = f"{nodes[0].op} {nodes[0].name!r} cannot be computed: {reason}"
            elif self.failures <= FAILURES:
                half = len(nodes) // 2
                self.run(nodes[:half])
                if rest := self._served(nodes[half:]):
                    self.run(rest)
            return
        self.values |= {id(tensor): (tensor, value) for tensor, value in zip(wanted, results, strict=True)}

    def _served(self, nodes: Sequence[ir.Node]) -> list[ir.Node]:
        """Those of `nodes` whose inputs are constants, have been computed, or come from another of them."""
        available = set(self.values)
        served = []
        for node in nodes:
            if all(not t.name or isinstance(t, ir.Constant) or id(t) in available for t in node.inputs):
                served.append(node)
                available.update(id(tensor) for tensor in node.outputs)
        return served


def _submodel(
    model: ir.Model, nodes: Sequence[ir.Node], known: Mapping[int, Array], wanted: Sequence[ir.Tensor]
) -> tuple[ModelProto, dict[str, Array]]:
    """A model of `nodes` with the outputs `wanted`, and what to feed it."""
    graph = GraphProto(name="constants")
    feed: dict[str, Array] = {}
    done = {id(tensor) for node in nodes for tensor in node.outputs}
    for tensor in (tensor for node in nodes for tensor in node.inputs if tensor.name):
        if id(tensor) in done:
            continue
        done.add(id(tensor))
        value = known[id(tensor)] if id(tensor) in known else ir.array(tensor)
        if value.nbytes > SMALL and value.dtype in NATIVE:
            elem_type = helper.np_dtype_to_tensor_dtype(value.dtype)
            graph.input.append(helper.make_tensor_value_info(tensor.name, elem_type, value.shape))
            feed[tensor.name] = value
        else:
            graph.initializer.append(numpy_helper.from_array(np.asarray(value, order="C"), tensor.name))
    graph.node.extend([ir.export_node(node, frozenset()) for node in nodes])
    graph.output.extend([ValueInfoProto(name=tensor.name) for tensor in wanted])
    opset = [helper.make_opsetid("", model.opset)]
    ir_version = helper.find_min_ir_version_for(opset, ignore_unknown=True)
    return helper.make_model(graph, opset_imports=opset, ir_version=ir_version), feed


def _compute(proto: ModelProto, feed: Mapping[str, Array]) -> list[Array]:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [np.asarray(value) for value in session.run(None, dict(feed))]
