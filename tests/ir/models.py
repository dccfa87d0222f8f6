"""Small ONNX files of many kinds, for tests of loading, saving and of what mutated bytes do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, SparseTensorProto, TensorProto, helper, numpy_helper, parser

from qcompiler import ir

HEADER = '<ir_version: 10, producer_name: "tests", opset_import: ["" : 21, "com.microsoft" : 1]>\n'

PLAIN = """g (float[N, 4] x) => (float[N, 3] y) <float[4, 3] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}> {
    [matmul] h = MatMul(x, w)
    [act] y = LeakyRelu <alpha = 0.25> (h)
}"""

BRANCH = """g (float[N, 4] x, bool c) => (float[N, 4] y) <float[4] w = {1, 2, 3, 4}> {
    [neg] a = Neg(x)
    [if] y = If (c) <
        then_branch = t () => (float[N, 4] t_out) <float[1] v = {2}> { [t0] t1 = Mul(a, v) [t1] t_out = Add(t1, w) },
        else_branch = e () => (float[N, 4] e_out) { [e0] e_out = Relu(a) }
    >
}"""

LOOP = """g (int64 n, bool go, float[2] start) => (float[2] last, float[K, 2] every) {
    [loop] last, every = Loop (n, go, start) <body = b (int64 i, bool more, float[2] s)
        => (bool again, float[2] t, float[2] scan) { again = Identity(more) t = Add(s, s) scan = Identity(t) }>
}"""

FUNCTIONS = (
    '<ir_version: 10, opset_import: ["" : 21, "local" : 1]>\n'
    """g (float[N, 4] x) => (float[N, 4] y) <float[4] w = {1, 2, 3, 4}> {
    [call] h = local.twice (x)
    [add] y = Add (h, w)
}
<domain: "local", opset_import: ["" : 21, "local" : 1]> double (a) => (b) { b = Add (a, a) }
<domain: "local", opset_import: ["" : 21, "local" : 1, "com.microsoft" : 1]> twice (a) => (b) {
    t = local.double (a) u = com.microsoft.Gelu (t) b = local.double (u) }"""
)

SEQUENCE = """g (float[2] x, seq(float[2]) s, optional(float[2]) o) => (seq(float[2]) t, int64 n) {
    [insert] t = SequenceInsert (s, x)
    [length] n = SequenceLength (t)
}"""


def plain() -> ModelProto:
    """MatMul and LeakyRelu."""
    return parser.parse_model(HEADER + PLAIN)


def branch() -> ModelProto:
    """If with a captured tensor and constants of both scopes."""
    return parser.parse_model(HEADER + BRANCH)


def functions() -> ModelProto:
    """Functions that call functions, one with a domain that the model does not import."""
    return parser.parse_model(FUNCTIONS)


def attributes() -> ModelProto:
    """Every kind of attribute, in operators of a foreign domain; metadata and doc strings everywhere."""
    tensor = numpy_helper.from_array(np.arange(6, dtype=np.float32).reshape(2, 3), "t")
    sparse = sparse_tensor()
    values = {
        "f": 0.1, "i": -3, "s": "text", "bytes": b"\xff\x00", "t": tensor, "fs": [0.5, 1.5], "is": [1, -2],
        "ss": ["a", "b"], "ts": [tensor, tensor], "sp": sparse, "sps": [sparse],
        "tp": helper.make_tensor_type_proto(1, [2, "n"]), "tps": [helper.make_tensor_type_proto(7, None)],
    }  # fmt: skip
    node = helper.make_node("Custom", ["x", "", "w"], ["y", "", "z"], name="custom", domain="my.domain", **values)
    for kind in ("ints", "floats", "strings"):
        node.attribute.append(
            helper.make_attribute(f"no_{kind}", [], attr_type=getattr(onnx.AttributeProto, kind.upper()))
        )
    node.attribute.append(helper.make_attribute("told", 7, doc_string="seven"))
    inner = parser.parse_graph("in (float[2] p) => (float[2] q) { q = Relu (p) }")
    node.attribute.append(helper.make_attribute("graphs", [inner, inner]))
    node.doc_string, node.overload = "a node", "v2"
    node.metadata_props.add(key="k", value="v")
    x = helper.make_tensor_value_info("x", 1, [2, "n", None], "an input", ["", "channels", ""])
    y = helper.make_tensor_value_info("y", 16, None)
    weight = numpy_helper.from_array(np.ones((2, 2), np.float16), "w")
    weight.doc_string = "a weight"
    weight.metadata_props.add(key="w", value="1")
    graph = helper.make_graph([node], "main", [x], [y], [weight], "a graph")
    graph.metadata_props.add(key="g", value="h")
    graph.value_info.append(helper.make_tensor_value_info("z", 9, []))
    note = graph.quantization_annotation.add(tensor_name="w")
    note.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="w")
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("my.domain", 3)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10, producer_name="tests", doc_string="a model")
    model.producer_version, model.domain, model.model_version = "1.2", "org.example", 5
    helper.set_model_props(model, {"author": "nobody"})
    training = model.training_info.add()
    training.initialization_binding.add(key="w", value="w")
    return model


def sparse_tensor() -> SparseTensorProto:
    """A 3 by 4 tensor with values 1 and 2 at (0, 1) and (2, 3)."""
    values = numpy_helper.from_array(np.array([1, 2], np.float32), "w")
    return helper.make_sparse_tensor(values, numpy_helper.from_array(np.array([1, 11], np.int64), "i"), [3, 4])


def sparse() -> ModelProto:
    """A sparse initializer."""
    model = parser.parse_model(HEADER + "g (float[3, 4] x) => (float[3, 4] y) { y = Add (x, w) }")
    model.graph.sparse_initializer.append(sparse_tensor())
    return model


def of_type(data_type: int, raw: bool = True) -> ModelProto:
    """A graph whose only initializer, also its output, has an ONNX type, raw or typed data, and 5 values."""
    if data_type == TensorProto.STRING:
        tensor = helper.make_tensor("w", data_type, [5], [b"a", b"", b"\xc3\xa9", b"d", b"e"])
    else:
        dtype = helper.tensor_dtype_to_np_dtype(data_type)
        values = [1, 2, 1, 1, 2] if data_type == TensorProto.FLOAT8E8M0 else [1, 0, 1, 1, 0]  # the former has no zero
        tensor = numpy_helper.from_array(np.array(values).astype(dtype), "w")
        if not raw:
            tensor = helper.make_tensor("w", data_type, [5], values)
    output = helper.make_tensor_value_info("w", data_type, [5])
    graph = helper.make_graph([], "g", [], [output], [tensor])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 25)], ir_version=13)


def write_external(folder: Path, size: int, values: int = 0, name: str = "m") -> Path:
    """A model that adds `size` float32 values from a file: a hole in it, but for the first `values`, which count up."""
    model = parser.parse_model(HEADER + f"g (float[{size}] x) => (float[{size}] y) {{ [add] s = Add (x, w) "
                               "[drop] d = Identity (s) [relu] y = Relu (d) }")  # fmt: skip
    weight = model.graph.initializer.add(name="w", data_type=TensorProto.FLOAT, dims=[size])
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value=f"{name}.bin")
    with (folder / f"{name}.bin").open("wb") as file:
        file.write(np.arange(values, dtype=np.float32).tobytes())
        file.truncate(4 * size)
    path = folder / f"{name}.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def normal(message: Any) -> Any:
    """The message without strings that are set and empty, which mean what unset ones mean."""
    for entry, value in message.ListFields():
        if entry.type == entry.TYPE_MESSAGE:
            for part in [value] if hasattr(value, "ListFields") else value:
                normal(part)
        elif value == "":
            message.ClearField(entry.name)
    return message


def same(a: ModelProto, b: ModelProto) -> bool:
    """Whether two protos have the same bytes, but for empty strings."""
    return bool(
        normal(a).SerializeToString(deterministic=True) == normal(b).SerializeToString(deterministic=True)
    )  # fmt: skip


def load(proto: ModelProto, folder: Path) -> ir.Model:
    """The model as loaded from a file."""
    path = folder / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    return ir.load(path)


SMALL_MODELS = {
    "plain": plain,
    "branch": branch,
    "loop": lambda: parser.parse_model(HEADER + LOOP),
    "functions": functions,
    "sequence": lambda: parser.parse_model(HEADER + SEQUENCE),
    "attributes": attributes,
    "sparse": sparse,
}
