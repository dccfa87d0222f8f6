"""Files that are not usable models: one clear line each, whatever the bytes, at no cost in time or memory."""

from __future__ import annotations

import contextlib
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper, numpy_helper, parser

from qcompiler import ir
from qcompiler.errors import ModelError, UserError
from tests.ir.models import HEADER, SMALL_MODELS, branch, functions, plain, sparse, write_external

MIB = 1 << 20


def line(path: Path) -> str:
    """What loading says, without the name of the folder."""
    with pytest.raises(ModelError) as found:
        ir.load(path)
    assert found.value.exit_status == 2
    text = str(found.value).replace(f"{path.parent}/", "").replace(str(path.parent), "FOLDER")
    assert "\n" not in text
    return text


# ---- files that are something else
FILES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty"),
    "text": (b"hello, this is not a model\n" * 9, "is not an ONNX model, or is truncated (protobuf cannot parse it)"),
    "truncated": (
        plain().SerializeToString()[:-40],
        "is not an ONNX model, or is truncated (protobuf cannot parse it)",
    ),
    "lfs": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        "is a Git LFS pointer, not the model itself (run 'git lfs pull')",
    ),
    "zip": (b"PK\x03\x04abcdef", "is a zip archive, not an ONNX model (export a PyTorch or Keras model to ONNX first)"),
    "hdf5": (b"\x89HDF\r\n\x1a\n", "is an HDF5 file, not an ONNX model (export the Keras model to ONNX first)"),
    "tflite": (b"\x1c\0\0\0TFL3....", "is a TensorFlow Lite model, not an ONNX model (convert it with tf2onnx first)"),
    "ort": (
        b"\x1c\0\0\0ORTM....",
        "is a model in ORT format, not in ONNX format (compile the ONNX file that it was made from)",
    ),
    "no graph": (ModelProto(ir_version=10).SerializeToString(), "this is not an ONNX model: it has no graph"),
    "a tensor": (
        numpy_helper.from_array(np.ones(3, np.float32), "x").SerializeToString(),
        "is not an ONNX model, or is truncated (protobuf cannot parse it)",
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_other_files(name: str, tmp_path: Path) -> None:
    data, message = FILES[name]
    (tmp_path / "m.onnx").write_bytes(data)
    assert line(tmp_path / "m.onnx") == f"m.onnx: {message}"


def test_no_file(tmp_path: Path) -> None:
    assert line(tmp_path / "m.onnx") == "m.onnx: no such file"
    (tmp_path / "folder").mkdir()
    assert line(tmp_path / "folder") == "folder: is a folder, not an ONNX file"
    assert line(tmp_path / "m.onnx" / "deeper") == "deeper: no such file"
    (tmp_path / "file").write_bytes(b"x")
    assert line(tmp_path / "file" / "m.onnx") == "m.onnx: cannot be read: Not a directory"
    assert line(tmp_path / ("n" * 300)).endswith(": cannot be read: File name too long")
    with (tmp_path / "huge.onnx").open("wb") as file:
        file.truncate(3 << 30)
    wanted = "huge.onnx: is larger than 2 GiB, which no ONNX file can be (keep weights as external data)"
    assert line(tmp_path / "huge.onnx") == wanted


# ---- models with one fault
def text(graph: str, header: str = HEADER) -> ModelProto:
    """A model from text."""
    return parser.parse_model(header + graph)


def changed(make: Callable[[], ModelProto], change: Callable[[ModelProto], object]) -> ModelProto:
    """A model after `change`."""
    model = make()
    change(model)
    return model


def weight(model: ModelProto) -> TensorProto:
    """The first initializer."""
    return model.graph.initializer[0]


def of(values: np.ndarray) -> ModelProto:
    """A model that gives an initializer."""
    tensor = numpy_helper.from_array(values, "w")
    output = helper.make_tensor_value_info("w", tensor.data_type, values.shape)
    graph = helper.make_graph([], "g", [], [output], [tensor])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def many_sparse(model: ModelProto) -> None:
    """Ten sparse initializers of 48 MiB each."""
    model.graph.sparse_initializer[0].dims[0] = 3 << 20
    for i in range(9):
        other = model.graph.sparse_initializer.add()
        other.CopyFrom(model.graph.sparse_initializer[0])
        other.values.name = f"w{i + 1}"


UNARY = "g (float[2] x) => (float[2] y) {{ [n1] {} }}"

MODELS: dict[str, tuple[ModelProto, str]] = {
    # header
    "ir version": (
        changed(plain, lambda m: setattr(m, "ir_version", 99)),
        "IR version 99 is newer than the installed onnx package knows (",
    ),
    "no ir version": (
        changed(plain, lambda m: m.ClearField("ir_version")),
        "the model has no IR version (export the model with IR version 3 or later)",
    ),
    "old ir version": (
        changed(plain, lambda m: setattr(m, "ir_version", 2)),
        "IR version 2 is not supported (export the model with IR version 3 or later)",
    ),
    "no opset": (
        changed(plain, lambda m: m.ClearField("opset_import")),
        "the model declares no opset (export it again, or set opset_import)",
    ),
    "opset": (
        changed(plain, lambda m: setattr(m.opset_import[0], "version", 999)),
        "opset 999 is not one that the installed onnx package knows (1 to ",
    ),
    "two opsets": (
        changed(plain, lambda m: m.opset_import.add(domain="ai.onnx", version=12)),
        "opset of domain 'ai.onnx' is given twice, with different versions",
    ),
    "not utf-8": (
        ModelProto.FromString(plain().SerializeToString().replace(b"matmul", b"mat\xff\xfel")),
        r"name is not valid UTF-8: b'mat\xff\xfel'",
    ),
    # operators
    "operator": (
        text(UNARY.format("y = Frobnicate (x)")),
        "node 'n1': operator 'Frobnicate' is unknown in opset 21 of the ONNX operators",
    ),
    "new operator": (
        text(UNARY.format("y = Gelu (x)"), '<ir_version: 8, opset_import: ["" : 13]>'),
        "node 'n1': operator 'Gelu' is newer than opset 13 of the ONNX operators",
    ),
    "removed operator": (
        text("g (float[1, 1, 2] x, float[3] s) => (float[1, 1, 4] y) { [n1] y = Upsample (x, s) }"),
        "node 'n1': operator 'Upsample' was removed in or before opset 21 of the ONNX operators",
    ),
    "domain": (
        text(UNARY.format("y = foo.Bar (x)")),
        "node 'n1': operator 'Bar' is of domain 'foo', of which the model declares no opset",
    ),
    "operator in a branch": (
        changed(branch, lambda m: setattr(m.graph.node[1].attribute[1].g.node[0], "op_type", "Nope")),
        "node 'e0': operator 'Nope' is unknown in opset 21 of the ONNX operators",
    ),
    "unnamed": (
        changed(lambda: text(UNARY.format("y = Nope (x)")), lambda m: m.graph.node[0].ClearField("name")),
        "unnamed Nope node (output 'y'): operator 'Nope' is unknown in opset 21 of the ONNX operators",
    ),
    # tensors and their names
    "cycle": (
        text("g (float[2] x) => (float[2] y) { [a] p = Add (x, r) [b] q = Neg (p) [c] r = Abs (q) [d] y = Relu (q) }"),
        "a -> b -> c -> a: the graph has a cycle",
    ),
    "cycle through a branch": (
        text("""g (float[2] x, bool k) => (float[2] y) { [a] p = Neg (y)
        [if] y = If (k) <then_branch = t () => (float[2] u) { [u] u = Relu (p) },
                         else_branch = e () => (float[2] v) { [v] v = Relu (x) }> }"""),
        "a -> if -> a: the graph has a cycle",
    ),
    "two producers": (
        text(UNARY.format("y = Neg (x) [n2] y = Abs (x)")),
        "node 'n2' produces 'y', which already exists",
    ),
    "produces an input": (
        text(UNARY.format("x = Neg (x) [n2] y = Abs (x)")),
        "node 'n1' produces 'x', which already exists",
    ),
    "hides an outer tensor": (
        changed(branch, lambda m: m.graph.node[1].attribute[1].g.node[0].output.__setitem__(0, "a")),
        "node 'e0' produces 'a', which already exists",
    ),
    "no producer": (text(UNARY.format("y = Add (x, z)")), "node 'n1' reads 'z', which nothing produces"),
    "a tensor of the other branch": (
        changed(branch, lambda m: m.graph.node[1].attribute[1].g.node[0].input.__setitem__(0, "t1")),
        "node 'e0' reads 't1', which nothing produces",
    ),
    "output": (text(UNARY.format("z = Neg (x)")), "graph output 'y' is not produced in its graph"),
    "output of an outer graph": (
        changed(branch, lambda m: setattr(m.graph.node[1].attribute[1].g.output[0], "name", "a")),
        "e: graph output 'a' is not produced in its graph (put an Identity in between)",
    ),
    "two inputs": (
        changed(plain, lambda m: m.graph.input.append(m.graph.input[0])),
        "x: two of the model's graph inputs have this name",
    ),
    "input without name": (
        changed(plain, lambda m: setattr(m.graph.input[0], "name", "")),
        "a graph input has no name",
    ),
    "input without type": (
        changed(plain, lambda m: m.graph.input[0].ClearField("type")),
        "x: graph input has no type",
    ),
    "two initializers": (
        changed(plain, lambda m: m.graph.initializer.append(weight(m))),
        "w: two of the model's initializers have this name",
    ),
    # values
    "size": (
        changed(lambda: of(np.ones((2, 3), np.float32)), lambda m: weight(m).dims.__setitem__(0, 3)),
        "w: tensor of type float and shape [3, 3] needs 36 bytes and holds 24",
    ),
    "typed size": (
        changed(plain, lambda m: weight(m).dims.__setitem__(0, 5)),
        "w: tensor of type float and shape [5, 3] needs 15 values and holds 12",
    ),
    "strings": (
        changed(lambda: of(np.array(["a", "b"], object)), lambda m: weight(m).dims.__setitem__(0, 3)),
        "w: tensor of type string and shape [3] needs 3 strings and holds 2",
    ),
    "packed": (
        changed(lambda: of(np.ones(5, np.int8)), lambda m: setattr(weight(m), "data_type", TensorProto.INT4)),
        "w: tensor of type int4 and shape [5] needs 3 bytes and holds 5",
    ),
    "absurd": (
        changed(plain, lambda m: weight(m).dims.__setitem__(slice(None), [1 << 62, 1 << 62])),
        f"w: no array can have the shape [{1 << 62}, {1 << 62}]",
    ),
    "empty and absurd": (
        changed(lambda: of(np.zeros((0, 3), np.float32)), lambda m: weight(m).dims.__setitem__(1, 1 << 62)),
        f"w: no array can have the shape [0, {1 << 62}]",
    ),
    "rank": (
        changed(lambda: of(np.zeros(1, np.float32)), lambda m: weight(m).dims.extend([1] * 70)),
        f"w: no array can have the shape {[1] * 71}",
    ),
    "large": (
        changed(plain, lambda m: weight(m).dims.__setitem__(0, 1 << 40)),
        f"w: tensor of type float and shape [{1 << 40}, 3] needs {3 << 40} values and holds 12",
    ),
    "negative": (
        changed(plain, lambda m: weight(m).dims.__setitem__(0, -4)),
        "w: tensor has a negative dimension in its shape [-4, 3]",
    ),
    "type": (changed(plain, lambda m: setattr(weight(m), "data_type", 77)), "w: unknown element type 77"),
    "no type": (changed(plain, lambda m: setattr(weight(m), "data_type", 0)), "w: unknown element type 0"),
    "type of an input": (
        changed(plain, lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", 77)),
        "x: unknown element type 77",
    ),
    "segment": (
        changed(plain, lambda m: setattr(weight(m).segment, "begin", 1)),
        "w: tensors in segments are not supported",
    ),
    "external strings": (
        changed(lambda: of(np.array(["a"], object)), lambda m: setattr(weight(m), "data_location", 1)),
        "w: strings cannot be external data",
    ),
    "sparse, huge": (
        changed(sparse, lambda m: m.graph.sparse_initializer[0].dims.__setitem__(0, 1 << 40)),
        "w: sparse initializers are too large to expand",
    ),
    "sparse, many": (changed(sparse, lambda m: many_sparse(m)), "w5: sparse initializers are too large to expand"),
    "sparse, outside": (
        changed(sparse, lambda m: m.graph.sparse_initializer[0].dims.__setitem__(0, 2)),
        "w: sparse initializer has an index outside its shape",
    ),
    "sparse, uneven": (
        changed(
            sparse,
            lambda m: m.graph.sparse_initializer[0].values.CopyFrom(numpy_helper.from_array(np.ones(3), "w")),
        ),
        "w: sparse initializer has values and indices that do not fit each other",
    ),
    # attributes
    "missing attribute": (text(UNARY.format("y = Cast (x)")), "node 'n1': Required attribute 'to' is missing."),
    "unknown attribute": (
        text(UNARY.format("y = Neg <zz = 1> (x)")),
        "node 'n1': Unrecognized attribute: zz for operator Neg",
    ),
    "type of an attribute": (
        text(UNARY.format("y = Cast <to = 1.0> (x)")),
        "node 'n1': Mismatched attribute type in 'n1 : to'. Expected: 'INT', actual: 'FLOAT'",
    ),
    "attribute twice": (
        changed(plain, lambda m: m.graph.node[1].attribute.append(m.graph.node[1].attribute[0])),
        "node 'act' has attribute 'alpha' twice",
    ),
    "reference outside a function": (
        changed(plain, lambda m: setattr(m.graph.node[1].attribute[0], "ref_attr_name", "slope")),
        "node 'act' refers to attribute 'slope' of a function around it",
    ),
    "too many inputs": (
        text(UNARY.format("y = Neg (x, x)")),
        "node 'n1': Node(n1) with schema(::Neg:13) has input size 2 not in range [min=1, max=1].",
    ),
    "tensor attribute": (
        changed(
            lambda: text(UNARY.format("k = Constant <value = float {1}> () [n2] y = Add (x, k)")),
            lambda m: m.graph.node[0].attribute[0].t.dims.append(9),
        ),
        "node 'n1': tensor of type float and shape [9] needs 9 values and holds 1",
    ),
    # functions
    "recursion": (
        changed(functions, lambda m: setattr(m.functions[0].node[0], "op_type", "twice") or setattr(
            m.functions[0].node[0], "domain", "local") or m.functions[0].node[0].input.pop()),
        "double -> twice -> double: functions call each other in a cycle",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_models_with_a_fault(name: str, tmp_path: Path) -> None:
    proto, message = MODELS[name]
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    found = line(tmp_path / "m.onnx")
    if message.endswith(("(", " to ")):  # the rest depends on the version of onnx
        found = found[: len(f"m.onnx: {message}")]
    assert found == f"m.onnx: {message}"


def test_no_nodes_are_fine(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(text("g (float[2] x) => (float[2] x) { }").SerializeToString())
    assert ir.load(tmp_path / "m.onnx").nodes == []


@pytest.mark.parametrize("field", ["type", "shape"])
def test_outputs_may_leave_out_what_can_be_inferred(field: str, tmp_path: Path) -> None:
    proto = plain()
    owner = proto.graph.output[0] if field == "type" else proto.graph.output[0].type.tensor_type
    owner.ClearField(field)
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    assert ir.load(tmp_path / "m.onnx").outputs[0].shape is None


def test_operators_of_the_runtime_are_fine(tmp_path: Path) -> None:
    proto = text("g (float[2, 4] x, float[4] s) => (float[2, 4] y) { y = SimplifiedLayerNormalization (x, s) }")
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    assert ir.load(tmp_path / "m.onnx").nodes[0].domain == ""


# ---- external data
EXTERNAL: dict[str, tuple[dict[str, str], str]] = {
    "missing": ({"location": "gone.bin"}, "w: external data file 'gone.bin' is missing (expected in FOLDER)"),
    "nowhere": ({"location": ""}, "w: external data has no location"),
    "folder": ({"location": "."}, "w: external data file '.' is missing (expected in FOLDER)"),
    "above": (
        {"location": "../secret.bin"},
        "w: external data path '../secret.bin' leaves the model's folder (put the data file beside the model)",
    ),
    "in and out": (
        {"location": "sub/../../secret.bin"},
        "w: external data path 'sub/../../secret.bin' leaves the model's folder (put the data file beside the model)",
    ),
    "absolute": (
        {"location": "/etc/hostname"},
        "w: external data path '/etc/hostname' leaves the model's folder (put the data file beside the model)",
    ),
    "link": (
        {"location": "link.bin"},
        "w: external data path 'link.bin' leaves the model's folder (put the data file beside the model)",
    ),
    "linked folder": (
        {"location": "up/secret.bin"},
        "w: external data path 'up/secret.bin' leaves the model's folder (put the data file beside the model)",
    ),
    "loop of links": ({"location": "loop.bin"}, "w: external data path 'loop.bin' cannot be followed"),
    "zero byte": ({"location": "a\0b"}, r"w: external data path 'a\x00b' cannot be followed"),
    "long": ({"location": "n" * 300}, f"w: external data path '{'n' * 300}' cannot be followed"),
    "short": ({"offset": "300"}, "w: external data file 'm.bin' is too short: 400 bytes, needs 700"),
    "negative": ({"offset": "-4"}, "w: external data offset is negative: -4"),
    "not a number": ({"offset": "four"}, "w: external data offset or length is not a number"),
    "length": ({"length": "44"}, "w: external data holds 44 bytes where its type and shape need 400"),
    "huge": (
        {"offset": str(1 << 70)},
        f"w: external data file 'm.bin' is too short: 400 bytes, needs {(1 << 70) + 400}",
    ),
}


@pytest.mark.parametrize("name", EXTERNAL)
def test_external_data(name: str, tmp_path: Path) -> None:
    fields, message = EXTERNAL[name]
    folder = tmp_path / "models"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(400))
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    (folder / "up").symlink_to(tmp_path)
    (folder / "loop.bin").symlink_to(folder / "loop.bin")
    (folder / "sub").mkdir()
    path = write_external(folder, 100)
    proto = ModelProto.FromString(path.read_bytes())
    del weight(proto).external_data[:]
    for key, value in ({"location": "m.bin"} | fields).items():
        weight(proto).external_data.add(key=key, value=value)
    path.write_bytes(proto.SerializeToString())
    assert line(path) == f"m.onnx: {message}"


def test_links_inside_the_folder_are_fine(tmp_path: Path) -> None:
    path = write_external(tmp_path, 100, values=100)
    (tmp_path / "m.bin").rename(tmp_path / "blob")
    (tmp_path / "m.bin").symlink_to("blob")
    assert ir.array(next(ir.load(path).constants())).sum() == 4950


# ---- bytes changed at random
def limited(path: Path) -> None:
    """Loads a file, and uses the model if it is one; only a UserError may come out, soon, and without much memory."""
    start, peak = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        model = ir.load(path)
        ir.to_text(model)
        ir.save(model.copy(), path.with_name("out.onnx"))
    except UserError as error:
        assert "\n" not in str(error)
    assert time.perf_counter() - start < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < MIB  # in KiB: a GiB


SEEDS = {name: make().SerializeToString() for name, make in SMALL_MODELS.items()}
FUZZ = settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])

edits = st.lists(
    st.tuples(
        st.sampled_from(["flip", "set", "insert", "delete", "repeat", "truncate"]),
        st.integers(0, 1 << 16),
        st.integers(0, 255),
        st.integers(1, 32),
    ),
    min_size=1,
    max_size=6,
)


def mutate(data: bytes, changes: list[tuple[str, int, int, int]]) -> bytes:
    """The bytes after a list of changes; positions wrap around."""
    out = bytearray(data)
    for kind, place, value, length in changes:
        at = place % max(1, len(out))
        match kind:
            case "flip" if out:
                out[at] ^= 1 << value % 8
            case "set" if out:
                out[at] = value
            case "insert":
                out[at:at] = bytes([value]) * (length % 5 + 1)
            case "delete":
                del out[at : at + length % 5 + 1]
            case "repeat":
                out[at:at] = out[value : value + length]
            case "truncate":
                del out[at:]
    return bytes(out)


@FUZZ
@given(name=st.sampled_from(sorted(SEEDS)), changes=edits)
def test_mutated_files(name: str, changes: list[tuple[str, int, int, int]], tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(mutate(SEEDS[name], changes))
    limited(tmp_path / "m.onnx")


@FUZZ
@given(changes=edits)
def test_mutated_references(changes: list[tuple[str, int, int, int]], tmp_path: Path) -> None:
    path = write_external(tmp_path, 600)
    path.write_bytes(mutate(path.read_bytes(), changes))
    limited(path)


TEXTS = ["", "x", "y", "w", "a", "local", "twice", "Add", "If", "Cast", "ai.onnx", "to", "location", "../x"]
NUMBERS = [0, 1, 2, 3, 5, 8, 10, 16, 22, -1, 1 << 31, 1 << 40, (1 << 63) - 1, -1 << 63]


def messages(message: Any) -> list[Any]:
    """A message and all messages inside it."""
    found = [message]
    for entry, value in message.ListFields():
        if entry.type == entry.TYPE_MESSAGE:
            for part in [value] if hasattr(value, "ListFields") else value:
                found += messages(part)
    return found


def rebuild(proto: ModelProto, draw: Callable[[int], int]) -> None:
    """Changes one field of one message: clears it, copies a message of its type into it, or gives it an odd value."""
    every = messages(proto)
    message = every[draw(len(every))]
    entries = [entry for entry, _ in message.ListFields()] if draw(3) else list(message.DESCRIPTOR.fields)
    if not entries:
        return
    entry = entries[draw(len(entries))]
    if draw(3) == 0:
        message.ClearField(entry.name)
        return
    if entry.type == entry.TYPE_MESSAGE:
        alike = [other for other in every if other.DESCRIPTOR is entry.message_type]
        value = type(alike[0]).FromString(alike[draw(len(alike))].SerializeToString()) if alike else None
    elif entry.type == entry.TYPE_STRING:
        value = TEXTS[draw(len(TEXTS))]
    elif entry.type == entry.TYPE_BYTES:
        value = bytes(draw(9))
    elif entry.type in (entry.TYPE_FLOAT, entry.TYPE_DOUBLE):
        value = [0.0, 1.0, float("nan"), float("inf")][draw(4)]
    elif entry.type == entry.TYPE_ENUM:
        value = entry.enum_type.values[draw(len(entry.enum_type.values))].number
    else:
        value = NUMBERS[draw(len(NUMBERS) if entry.type == entry.TYPE_INT64 else 9)]
    held = getattr(message, entry.name)
    if hasattr(held, "append"):
        if value is not None:
            held.append(value)
        if len(held) > 1 and draw(2):
            del held[draw(len(held))]
    elif entry.type == entry.TYPE_MESSAGE:
        if value is not None:
            held.CopyFrom(value)
    else:
        setattr(message, entry.name, value)


@FUZZ
@given(name=st.sampled_from(sorted(SEEDS)), rolls=st.lists(st.integers(0, 1 << 16), min_size=9, max_size=60))
def test_rebuilt_models(name: str, rolls: list[int], tmp_path: Path) -> None:
    proto = ModelProto.FromString(SEEDS[name])
    dice = iter(rolls)
    with contextlib.suppress(StopIteration):
        while True:
            rebuild(proto, lambda count: next(dice) % count)
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    limited(tmp_path / "m.onnx")


@FUZZ
@given(data=st.binary(max_size=200))
def test_random_bytes(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(data)
    limited(tmp_path / "m.onnx")
