"""External data: memory while loading and saving, files written, files refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper, parser

from qcompiler import ir
from qcompiler.errors import ModelError, OutputError
from tests.ir.models import HEADER, branch, of_type, plain, write_external

MEASURE = """
import json, sys
from pathlib import Path
from qcompiler import ir

def peak():
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024

source, target, drop = sys.argv[1:]
before = peak()
model = ir.load(source)
if drop:
    edit = next(ir.editors(model))
    node = model.find(drop)
    edit.replace_uses(node.outputs[0], node.inputs[0])
    edit.erase(node)
    ir.verify(model)
files = ir.save(model, target)
print(json.dumps({"mib": peak() - before, "files": [str(file) for file in files]}))
"""


def load_and_save(source: Path, target: Path, drop: str = "") -> float:
    """Peak memory in MiB above the start, in a process of its own."""
    if not Path("/proc/self/status").exists():
        pytest.skip("peak memory is read from /proc")
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(source), str(target), drop], capture_output=True, text=True, check=True
    )
    return float(json.loads(done.stdout)["mib"])


def test_external_weights_stay_on_disk(tmp_path: Path) -> None:
    source = write_external(tmp_path, 64 << 20, values=1000)
    (tmp_path / "out").mkdir()
    assert load_and_save(source, tmp_path / "out" / "n.onnx", "drop") < 60
    data = tmp_path / "out" / "n.onnx.data"
    assert data.stat().st_size == 256 << 20
    weight = ir.array(next(ir.load(tmp_path / "out" / "n.onnx").constants()))
    np.testing.assert_array_equal(weight[:2000], np.r_[np.arange(1000), np.zeros(1000)])


def test_more_than_protobuf_can_hold(tmp_path: Path) -> None:
    size = (1 << 29) + 5000  # times 4 bytes: 2 GiB and a little
    source = write_external(tmp_path, size, values=3)
    before = (source.stat().st_size, (tmp_path / "m.bin").stat().st_mtime_ns)
    (tmp_path / "out").mkdir()
    assert load_and_save(source, tmp_path / "out" / "n.onnx", "drop") < 60
    model = ir.load(tmp_path / "out" / "n.onnx")
    assert [node.name for node in model.nodes] == ["add", "relu"]
    assert model.weights_bytes() == 4 * size
    assert ir.array(next(model.constants()))[[0, 1, 2, 3, -1]].tolist() == [0, 1, 2, 0, 0]
    assert before == (source.stat().st_size, (tmp_path / "m.bin").stat().st_mtime_ns)
    # holes stay holes
    assert (tmp_path / "out" / "n.onnx.data").stat().st_blocks * 512 < 64 << 20


@pytest.mark.zoo
def test_memory_of_a_model_with_weights_inside(zoo: object, tmp_path: Path) -> None:
    source = Path(zoo.__file__).parent / "minilm_l6.onnx"  # type: ignore[attr-defined]
    size = source.stat().st_size / (1 << 20)
    assert load_and_save(source, tmp_path / "n.onnx") < 2.6 * size


def two_weights(folder: Path) -> Path:
    """A model with two external weights in two files, one in a subfolder, a small one, and one inside."""
    text = "g (float[N, 600] x) => (float[N, 600] y) { a = Add (x, u) b = Add (a, v) c = Add (b, w) y = Add (c, k) }"
    proto = parser.parse_model(HEADER + text)
    (folder / "sub").mkdir(parents=True)
    counting = np.arange(600, dtype=np.float32)
    (folder / "u.bin").write_bytes(np.array([0.5, 0], np.float32).tobytes() + (counting + 8).tobytes())
    (folder / "sub" / "v.bin").write_bytes(counting.tobytes())
    for name, location, offset, count in (("u", "u.bin", 8, 600), ("v", "sub/v.bin", 0, 600), ("k", "u.bin", 0, 1)):
        tensor = proto.graph.initializer.add(name=name, data_type=1, dims=[count], data_location=TensorProto.EXTERNAL)
        for key, value in (("location", location), ("offset", str(offset)), ("length", str(4 * count))):
            tensor.external_data.add(key=key, value=value)
    proto.graph.initializer.append(numpy_helper.from_array(np.full(600, 3, np.float32), "w"))
    (folder / "m.onnx").write_bytes(proto.SerializeToString())
    return folder / "m.onnx"


def outputs(path: Path) -> np.ndarray:
    """What ONNX Runtime computes for ones."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": np.ones((1, 600), np.float32)})[0])


def test_data_ends_up_in_one_file_beside_the_model(tmp_path: Path) -> None:
    model = ir.load(two_weights(tmp_path / "in"))
    (tmp_path / "out").mkdir()
    files = ir.save(model, tmp_path / "out" / "n.onnx")
    assert files == [tmp_path / "out" / "n.onnx", tmp_path / "out" / "n.onnx.data"]
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["n.onnx", "n.onnx.data"]
    proto = onnx.load(files[0], load_external_data=False)
    places = {t.name: {e.key: e.value for e in t.external_data} for t in proto.graph.initializer}
    span = {"location": "n.onnx.data", "length": "2400"}
    assert places == {
        "u": span | {"offset": "0"},
        "v": span | {"offset": "4096"},
        "k": {},
        "w": span | {"offset": "8192"},
    }
    onnx.checker.check_model(files[0])
    np.testing.assert_array_equal(outputs(files[0]), outputs(tmp_path / "in" / "m.onnx"))


def test_bytes_do_not_depend_on_the_run(tmp_path: Path) -> None:
    written = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        model = ir.load(two_weights(tmp_path / f"in_{name}"))
        written.append([file.read_bytes() for file in ir.save(model.copy(), tmp_path / name / "n.onnx")])
    assert written[0] == written[1]


def test_a_limit_sends_weights_out(tmp_path: Path) -> None:
    model = ir.Model.from_proto(plain())
    edit = next(ir.editors(model))
    big = edit.constant("big", np.arange(3000, dtype=np.float32).reshape(1000, 3).T)
    edit.add("Add", [big, big], name="user")
    assert len(ir.save(model, tmp_path / "in.onnx")) == 1
    model_file, data = ir.save(model, tmp_path / "out.onnx", external_above=12_000)
    assert data.stat().st_size == 12_000 and model_file.stat().st_size < 1000
    again = {c.name: ir.array(c) for c in ir.load(model_file).constants()}
    np.testing.assert_array_equal(again["big"], ir.array(big))


@pytest.mark.parametrize("data_type", [1, 2, 9, 10, 15, 16, 17, 21, 22, 23, 25, 26])
def test_types_in_files(data_type: int, tmp_path: Path) -> None:
    proto = of_type(data_type)
    wanted = np.concatenate([numpy_helper.to_array(proto.graph.initializer[0])] * 2001)
    proto.graph.initializer[0].CopyFrom(numpy_helper.from_array(wanted, "w"))
    proto.graph.output[0].type.tensor_type.shape.dim[0].dim_value = len(wanted)
    files = ir.save(ir.Model.from_proto(proto), tmp_path / "a.onnx", external_above=1)
    assert len(files) == 2
    model = ir.load(files[0])
    constant = next(model.constants())
    assert ir.array(constant).dtype == wanted.dtype
    np.testing.assert_array_equal(ir.array(constant), wanted)
    again = ir.save(model, tmp_path / "b.onnx")
    assert files[1].read_bytes() == again[1].read_bytes()
    assert proto.graph.initializer[0].raw_data == files[1].read_bytes()


def test_the_file_being_read_is_not_overwritten(tmp_path: Path) -> None:
    source = write_external(tmp_path, 1000, name="m.onnx")
    (tmp_path / "m.onnx.bin").rename(tmp_path / "m.onnx.data")
    proto = onnx.load(tmp_path / "m.onnx.onnx", load_external_data=False)
    proto.graph.initializer[0].external_data[0].value = "m.onnx.data"
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    source.unlink()
    before = (tmp_path / "m.onnx.data").read_bytes()
    with pytest.raises(OutputError, match=r"m\.onnx\.data: the model still reads its weights from this file"):
        ir.save(ir.load(tmp_path / "m.onnx"), tmp_path / "m.onnx")
    assert (tmp_path / "m.onnx.data").read_bytes() == before
    assert sorted(file.name for file in tmp_path.iterdir()) == ["m.onnx", "m.onnx.data"]


def test_nothing_is_left_behind_where_writing_fails(tmp_path: Path) -> None:
    model = ir.Model.from_proto(plain())
    with pytest.raises(OutputError, match="cannot be written: No such file or directory"):
        ir.save(model, tmp_path / "missing" / "m.onnx")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="cannot be written: Is a directory"):
        ir.save(model, tmp_path / "folder")
    assert [file.name for file in tmp_path.iterdir()] == ["folder"]


def test_data_that_went_away(tmp_path: Path) -> None:
    source = write_external(tmp_path, 1000)
    model = ir.load(source)
    with (tmp_path / "m.bin").open("r+b") as file:
        file.truncate(100)
    with pytest.raises(ModelError, match=r"w: external data file 'm\.bin' is too short: 100 bytes, needs 4000"):
        ir.array(next(model.constants()))
    with pytest.raises(ModelError, match="too short"):
        ir.save(model, tmp_path / "out.onnx")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["m.bin", "m.onnx"]


def as_session(model: ir.Model, external_above: int = 1 << 30) -> ort.InferenceSession:
    """A session from bytes and arrays, as the docstring of `serialized` says."""
    data, arrays = ir.serialized(model, external_above=external_above)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    values = [
        ort.OrtValue.ortvalue_from_numpy_with_onnx_type(
            a.view(f"u{a.itemsize}"), helper.np_dtype_to_tensor_dtype(a.dtype)
        )
        for a in arrays.values()
    ]
    options.add_external_initializers(list(arrays), values)
    return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def test_a_session_without_files(tmp_path: Path) -> None:
    model = ir.load(two_weights(tmp_path))
    data, arrays = ir.serialized(model)
    assert sorted(arrays) == ["u", "v"] and len(data) < 5000
    wanted = outputs(tmp_path / "m.onnx")
    session = as_session(model)
    del arrays
    np.testing.assert_array_equal(session.run(None, {"x": np.ones((1, 600), np.float32)})[0], wanted)


@pytest.mark.parametrize("data_type", [2, 9, 10, 11, 16, 17, 21, 22])
def test_sessions_of_other_types(data_type: int, tmp_path: Path) -> None:
    """bfloat16, float8 and int4 have no NumPy type that ONNX Runtime takes."""
    proto = of_type(data_type)
    proto.ir_version, proto.opset_import[0].version = 10, 21
    wanted = np.concatenate([numpy_helper.to_array(proto.graph.initializer[0])] * 2000)
    proto.graph.initializer[0].CopyFrom(numpy_helper.from_array(wanted, "w"))
    proto.graph.node.add(op_type="Cast", input=["w"], output=["y"]).attribute.add(name="to", type=2, i=1)
    proto.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", 1, [len(wanted)]))
    files = ir.save(ir.Model.from_proto(proto), tmp_path / "a.onnx", external_above=1)
    assert len(files) == 2
    np.testing.assert_array_equal(as_session(ir.load(files[0])).run(None, {})[0], wanted.astype(np.float32))


def test_constants_of_branches_and_attributes_in_a_session(tmp_path: Path) -> None:
    proto = branch()
    inner = proto.graph.node[1].attribute[0].g
    inner.node.add(op_type="Constant", output=["k"]).attribute.append(
        helper.make_attribute("value", numpy_helper.from_array(np.full(2000, 5, np.float32)))
    )
    inner.node.add(op_type="ReduceMax", input=["k"], output=["m"], name="m").attribute.append(
        helper.make_attribute("keepdims", 0)
    )
    inner.node.add(op_type="Mul", input=["t_sum", "m"], output=["t_out"], name="n")
    inner.node[1].output[0] = "t_sum"
    inner.initializer[0].CopyFrom(numpy_helper.from_array(np.full((500, 4), 2, np.float32), "v"))
    files = ir.save(ir.Model.from_proto(proto), tmp_path / "a.onnx", external_above=1)
    assert files[1].stat().st_size == 4096 * 2 + 8000
    feed = {"x": np.ones((500, 4), np.float32), "c": np.array(True)}
    wanted = ort.InferenceSession(proto.SerializeToString()).run(None, feed)[0]
    np.testing.assert_array_equal(ort.InferenceSession(files[0]).run(None, feed)[0], wanted)
    model = ir.load(files[0])
    data, arrays = ir.serialized(model)
    assert not arrays  # ONNX Runtime takes initializers of the main graph only
    np.testing.assert_array_equal(ort.InferenceSession(data).run(None, feed)[0], wanted)


def test_weights_in_memory_that_protobuf_cannot_hold(tmp_path: Path) -> None:
    model = ir.load(two_weights(tmp_path))
    assert sorted(ir.serialized(model, external_above=2000)[1]) == ["u", "v", "w"]
    np.testing.assert_array_equal(
        as_session(model, external_above=2000).run(None, {"x": np.ones((1, 600), np.float32)})[0],
        outputs(tmp_path / "m.onnx"),
    )


def test_a_skeleton_is_enough_for_shape_inference(tmp_path: Path) -> None:
    model = ir.load(write_external(tmp_path, 5000))
    model.nodes[0].outputs[0].shape = None
    proto: ModelProto = ir.skeleton(model)
    assert len(proto.SerializeToString()) < 500
    shapes = {
        v.name: v.type.tensor_type.shape.dim[0].dim_value
        for v in onnx.shape_inference.infer_shapes(proto).graph.value_info
    }
    assert shapes == {"s": 5000, "d": 5000}
