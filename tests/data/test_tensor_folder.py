"""ONNX test data sets: order, names, damage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from qcompiler.data import InputInfo, open_source
from qcompiler.errors import DataError

A = InputInfo("a", np.dtype(np.float32), ("N", 2))
B = InputInfo("b", np.dtype(np.int64), ())


def write(folder: Path, *tensors: tuple[str, np.ndarray]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for index, (name, array) in enumerate(tensors):
        (folder / f"input_{index}.pb").write_bytes(numpy_helper.from_array(array, name).SerializeToString())
    (folder / "output_0.pb").write_bytes(b"not read")


def refusal(folder: Path, *inputs: InputInfo) -> str:
    with pytest.raises(DataError) as caught:
        list(open_source(folder, inputs))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_folders_by_number_tensors_by_position(tmp_path: Path) -> None:
    model = tmp_path / "model"
    for number in (10, 0, 2):
        write(model / f"test_data_set_{number}", ("", np.float32([[number, 0]])), ("", np.array(number)))
    source = open_source(model, [A, B])
    assert (source.count, source.has_labels, source.description) == (3, False, "ONNX test data in model")
    assert [s.name for s in source] == ["test_data_set_0", "test_data_set_2", "test_data_set_10"]
    assert [int(s.feed["b"]) for s in source] == [0, 2, 10]
    assert [s.feed["a"].tolist() for s in source] == [[[0, 0]], [[2, 0]], [[10, 0]]]
    (single,) = open_source(model / "test_data_set_2", [A, B])
    assert single.name == "test_data_set_2" and single.label is None


def test_names_win_over_positions_if_they_are_the_inputs(tmp_path: Path) -> None:
    write(tmp_path, ("b", np.array(3)), ("a", np.float32([[1, 2]])))
    (sample,) = open_source(tmp_path, [A, B])
    assert int(sample.feed["b"]) == 3 and sample.feed["a"].tolist() == [[1, 2]]
    write(tmp_path, ("other", np.float32([[1, 2]])), ("a", np.array(3)))
    (sample,) = open_source(tmp_path, [A, B])
    assert int(sample.feed["b"]) == 3


def test_text_and_small_types(tmp_path: Path) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    write(tmp_path, ("t", np.array(["eins", "zwei"], object)), ("q", np.array([1, -8], ml_dtypes.int4)))
    inputs = [InputInfo("t", np.dtype(object), (2,)), InputInfo("q", np.dtype(ml_dtypes.int4), (2,))]
    (sample,) = open_source(tmp_path, inputs)
    assert sample.feed["t"].tolist() == ["eins", "zwei"] and sample.feed["q"].astype(int).tolist() == [1, -8]


def test_refusals(tmp_path: Path) -> None:
    folder = tmp_path / "test_data_set_0"
    write(folder, ("", np.float32([[1, 2]])))
    assert refusal(tmp_path, A, B) == f"{folder}: holds 'input_0.pb' (the model takes 2: 'a', 'b')"
    (folder / "input_0.pb").write_bytes(b"\xff\xff\xff")
    assert refusal(tmp_path, A).startswith(f"{folder / 'input_0.pb'}: cannot be read: ")
    write(folder, ("", np.float32([1, 2])))
    assert refusal(tmp_path, A) == "test_data_set_0: input 'a' takes shape (N, 2), but the data has (2,)"
    proto = numpy_helper.from_array(np.float32([[1, 2]]))
    proto.dims[0] = 1 << 40
    (folder / "input_0.pb").write_bytes(proto.SerializeToString())
    assert "cannot be read: " in refusal(tmp_path, A)
    proto = onnx.TensorProto(data_type=1, dims=[1, 2], data_location=onnx.TensorProto.EXTERNAL)
    proto.external_data.add(key="location", value="../secret")
    (folder / "input_0.pb").write_bytes(proto.SerializeToString())
    assert refusal(tmp_path, A).endswith("keeps its values in another file (save it with its values inside)")


SERIALIZED = numpy_helper.from_array(np.float32([[1, 2], [3, 4]]), "a").SerializeToString()


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    raw=st.one_of(
        st.binary(max_size=40),
        st.integers(0, len(SERIALIZED)).map(lambda end: SERIALIZED[:end]),
        st.tuples(st.integers(0, len(SERIALIZED) - 1), st.binary(min_size=1, max_size=3)).map(
            lambda edit: SERIALIZED[: edit[0]] + edit[1] + SERIALIZED[edit[0] + len(edit[1]) :]
        ),
    )
)
def test_mutated_tensors_raise_only_data_errors(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "input_0.pb").write_bytes(raw)
    try:
        list(open_source(tmp_path, [A]))
    except DataError as error:
        assert "\n" not in str(error)
