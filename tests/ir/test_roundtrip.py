"""Nothing is lost between a file and the graph, in either direction."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

from qcompiler import ir
from tests.ir.models import HEADER, SMALL_MODELS, attributes, branch, load, of_type, plain, same, sparse

TYPES = sorted(set(TensorProto.DataType.values()) - {TensorProto.UNDEFINED})


@pytest.mark.parametrize("name", [name for name in SMALL_MODELS if name not in ("functions", "sparse")])
def test_small_models(name: str, tmp_path: Path) -> None:
    proto = SMALL_MODELS[name]()
    model = load(proto, tmp_path)
    assert same(model.to_proto(), proto)
    assert same(model.copy().to_proto(), proto)
    assert ir.save(model, tmp_path / "out.onnx") == [tmp_path / "out.onnx"]
    assert (tmp_path / "out.onnx").read_bytes() == model.to_proto().SerializeToString(deterministic=True)


def test_a_question_mark_names_no_size(tmp_path: Path) -> None:
    proto = plain()
    shape = [None, "?", "batch", 3]
    proto.graph.input[0].CopyFrom(helper.make_tensor_value_info(proto.graph.input[0].name, TensorProto.FLOAT, shape))
    model = load(proto, tmp_path)
    assert list(model.inputs[0].shape) == [None, None, "batch", 3]
    wanted = onnx.ModelProto.FromString(proto.SerializeToString())
    wanted.graph.input[0].type.tensor_type.shape.dim[1].Clear()
    assert same(model.to_proto(), wanted)


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("data_type", TYPES)
def test_every_type_of_initializer(data_type: int, raw: bool, tmp_path: Path) -> None:
    proto = of_type(data_type, raw)
    model = load(proto, tmp_path)
    assert same(model.to_proto(), proto)
    constant = next(model.constants())
    wanted = numpy_helper.to_array(proto.graph.initializer[0])
    np.testing.assert_array_equal(ir.array(constant), wanted)
    assert ir.array(constant).dtype == wanted.dtype
    ir.save(model, tmp_path / "out.onnx")
    assert same(onnx.load(tmp_path / "out.onnx"), proto)


@pytest.mark.parametrize("data_type", TYPES)
def test_every_type_of_new_constant(data_type: int) -> None:
    wanted = numpy_helper.to_array(of_type(data_type).graph.initializer[0])
    model = ir.Model.from_proto(plain())
    edit = next(ir.editors(model))
    constant = edit.constant("k", wanted)
    proto = next(t for t in model.to_proto().graph.initializer if t.name == "k")
    assert proto.data_type == data_type
    np.testing.assert_array_equal(numpy_helper.to_array(proto), wanted)
    assert ir.nbytes(constant) == (5 if data_type == TensorProto.STRING else len(proto.raw_data))


def test_new_constants_of_odd_arrays() -> None:
    model = ir.Model.from_proto(plain())
    edit = next(ir.editors(model))
    arrays = {
        "scalar": np.array(2.5, np.float32),
        "big_endian": np.arange(4, dtype=">i4"),
        "transposed": np.arange(6, dtype=np.float32).reshape(2, 3).T,
        "strided": np.arange(10, dtype=np.int64)[::3],
        "text": np.array(["a", "bc"]),
        "empty": np.zeros((0, 3), np.float16),
    }
    constants = {name: edit.constant(name, values) for name, values in arrays.items()}
    protos = {t.name: t for t in model.to_proto().graph.initializer}
    for name, values in arrays.items():
        assert list(protos[name].dims) == list(values.shape)
        np.testing.assert_array_equal(numpy_helper.to_array(protos[name]), values)
        assert not ir.array(constants[name]).flags.writeable
    assert [ir.nbytes(c) for c in constants.values()] == [4, 16, 24, 32, 3, 0]


def test_attributes_are_python_values_where_possible(tmp_path: Path) -> None:
    attrs = load(attributes(), tmp_path).nodes[0].attrs
    assert attrs["i"] == -3 and attrs["s"] == "text" and attrs["is"] == [1, -2] and attrs["ss"] == ["a", "b"]
    assert attrs["f"] == pytest.approx(0.1) and attrs["fs"] == [0.5, 1.5]
    assert attrs["bytes"].encode("utf-8", "surrogateescape") == b"\xff\x00"
    assert attrs["no_ints"] == attrs["no_floats"] == attrs["no_strings"] == []
    assert attrs["told"] == 7
    np.testing.assert_array_equal(ir.array(attrs["t"]), [[0, 1, 2], [3, 4, 5]])


def test_new_attributes_take_the_type_of_the_operator(tmp_path: Path) -> None:
    model = load(plain(), tmp_path)
    edit = next(ir.editors(model))
    node = edit.add("LeakyRelu", [model.inputs[0]], name="n", attrs={"alpha": 1})
    other = edit.add("Custom", [model.inputs[0]], name="m", attrs={"axes": [], "k": np.int64(3)}, domain="my")
    protos = {n.name: n for n in model.to_proto().graph.node}
    assert protos[node.name].attribute[0].type == onnx.AttributeProto.FLOAT
    assert [(a.type, a.i) for a in protos[other.name].attribute] == [
        (onnx.AttributeProto.INTS, 0), (onnx.AttributeProto.INT, 3)
    ]  # fmt: skip
    assert [(o.domain, o.version) for o in model.to_proto().opset_import] == [("", 21), ("com.microsoft", 1), ("my", 1)]


def test_sparse_initializers_become_dense(tmp_path: Path) -> None:
    model = load(sparse(), tmp_path)
    wanted = np.zeros((3, 4), np.float32)
    wanted[0, 1], wanted[2, 3] = 1, 2
    np.testing.assert_array_equal(ir.array(next(model.constants())), wanted)
    proto = sparse()
    indices = proto.graph.sparse_initializer[0].indices
    indices.CopyFrom(numpy_helper.from_array(np.array([[0, 1], [2, 3]], np.int64), "i"))
    np.testing.assert_array_equal(ir.array(next(load(proto, tmp_path).constants())), wanted)


def test_negative_dimensions_are_unknown(tmp_path: Path) -> None:
    proto = plain()
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = -1
    model = load(proto, tmp_path)
    assert model.inputs[0].shape == [None, 4]
    assert [d.WhichOneof("value") for d in model.to_proto().graph.input[0].type.tensor_type.shape.dim] == [
        None, "dim_value"
    ]  # fmt: skip


def test_denotations_and_documentation_survive_until_the_type_changes(tmp_path: Path) -> None:
    model = load(attributes(), tmp_path)
    model.inputs[0].dtype = np.dtype(np.float16)
    info = model.to_proto().graph.input[0]
    assert info.doc_string == "an input"
    assert info.type.tensor_type.elem_type == TensorProto.FLOAT16
    assert [d.denotation for d in info.type.tensor_type.shape.dim] == ["", "", ""]


def test_shapes_may_be_changed_in_place(tmp_path: Path) -> None:
    model = load(plain(), tmp_path)
    model.inputs[0].shape[0] = 7
    assert model.to_proto().graph.input[0].type.tensor_type.shape.dim[0].dim_value == 7


def test_nodes_are_put_in_order(tmp_path: Path) -> None:
    proto = parser.parse_model(
        HEADER
        + """g (float[2] x, bool c) => (float[2] y) {
        [last] y = If (c) <then_branch = t () => (float[2] p) { [p] p = Neg (r) [r] r = Abs (a) },
                           else_branch = e () => (float[2] q) { [q] q = Relu (a) }>
        [b] unused = Relu (x)
        [first] a = Neg (x) }"""
    )
    model = load(proto, tmp_path)
    assert [node.name for node in model.nodes] == ["b", "first", "last"]
    assert [n.name for n in model.nodes[2].attrs["then_branch"].nodes] == ["r", "p"]
    onnx.checker.check_model(model.to_proto())


def test_scopes(tmp_path: Path) -> None:
    model = load(branch(), tmp_path)
    node = model.find("if")
    then, other = node.attrs["then_branch"], node.attrs["else_branch"]
    a = model.find("neg").outputs[0]
    assert then.nodes[0].inputs[0] is a and other.nodes[0].inputs[0] is a
    assert {user.name for user in a.outputs} == {"t0", "e0"}
    assert [c.name for c in then.declared] == ["v"] and [c.name for c in model.graph.declared] == ["w"]
    assert sorted(c.name for c in model.constants()) == ["v", "w"]


def test_a_description_of_an_outer_tensor_does_not_hide_it(tmp_path: Path) -> None:
    proto = branch()
    inner = proto.graph.node[1].attribute[0].g
    inner.value_info.append(helper.make_tensor_value_info("a", 1, [2, 4]))
    model = load(proto, tmp_path)
    assert model.find("t0").inputs[0] is model.find("neg").outputs[0]


def test_names_of_an_inner_graph_may_hide_outer_ones(tmp_path: Path) -> None:
    text = """g (float[2] x, float[3, 2] s) => (float[3, 2] y) {
        [a] a = Neg (x)
        [scan] y = Scan <num_scan_inputs = 1, body = b (float[2] x) => (float[2] z) { [z] z = Relu (x) }> (s) }"""
    proto = parser.parse_model(HEADER + text)
    model = load(proto, tmp_path)
    inner = model.find("z")
    assert inner.inputs[0] is model.find("scan").attrs["body"].inputs[0]
    assert same(model.to_proto(), proto)


def test_ends_of_every_kind(tmp_path: Path) -> None:
    """An input that is an output, an initializer that is an output, one that is an input, an output listed twice."""
    text = """g (float[2] x, float[2] w) => (float[2] x, float[2] v, float[2] y, float[2] y)
        <float[2] w = {1, 2}, float[2] v = {3, 4}> { [add] y = Add (x, w) }"""
    proto = parser.parse_model(HEADER + text)
    model = load(proto, tmp_path)
    assert same(model.to_proto(), proto)
    assert [t.name for t in model.inputs] == ["x"]
    assert [t.name for t in model.outputs] == ["x", "v", "y", "y"]
    ir.verify(model)


def test_copies_share_values_and_nothing_else(tmp_path: Path) -> None:
    model = load(branch(), tmp_path)
    twin = model.copy()
    for a, b in zip(model.constants(), twin.constants(), strict=True):
        assert a is not b and a._values is b._values
    twin.find("neg").op = "Abs"
    twin.opset = 22
    assert model.find("neg").op == "Neg" and model.opset == 21
    assert same(model.to_proto(), branch())


def test_the_ir_version_follows_the_opset_and_loose_initializers(tmp_path: Path) -> None:
    model = ir.Model.from_proto(plain())
    model.header.ir_version = 3
    assert model.to_proto().ir_version == 4
    model.opset = 21
    assert model.to_proto().ir_version == 10


def test_weights_bytes() -> None:
    assert ir.Model.from_proto(plain()).weights_bytes() == 48
    assert ir.Model.from_proto(branch()).weights_bytes() == 20
    assert ir.Model.from_proto(attributes()).weights_bytes() == 8 + 24
    assert ir.Model.from_proto(of_type(TensorProto.INT4)).weights_bytes() == 3
