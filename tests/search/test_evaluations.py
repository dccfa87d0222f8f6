"""Evaluations are the same bits in one process, in several, on a cluster that loses a worker, and from a journal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from qcompiler import ir
from qcompiler.analysis import Evaluation, Runner, SessionConfig, evaluate
from qcompiler.analysis.record import Record
from qcompiler.data import InputInfo, Sample, open_source
from qcompiler.data.shards import Shard
from qcompiler.data.source import CheckedSource
from qcompiler.errors import DataError
from qcompiler.frontend import front
from qcompiler.search.evaluations import Evaluations
from qcompiler.search.executors import open_executor
from qcompiler.search.feeding import Part, UnseenError, samples_of
from qcompiler.search.journal import Journal, content_key
from qcompiler.search.record_json import record_from_json, record_to_json

CNN = Path(__file__).resolve().parents[2] / "models" / "digits_cnn"
KEY = content_key("test")


@pytest.fixture(scope="module")
def original() -> ir.Model:
    return ir.load(CNN / "model.onnx")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, original: ir.Model) -> dict[str, ir.Model]:
    """The float model, and two with coarser and coarser weights."""
    found = {"float": original}
    for levels in (8, 3):
        proto = onnx.load(CNN / "model.onnx")
        for tensor in proto.graph.initializer:
            values = numpy_helper.to_array(tensor)
            if values.ndim > 1 and values.dtype == np.float32:
                step = np.abs(values).max() / levels
                tensor.CopyFrom(
                    numpy_helper.from_array((np.round(values / step) * step).astype(np.float32), tensor.name)
                )
        path = tmp_path_factory.mktemp("models") / f"{levels}.onnx"
        onnx.save(proto, path)
        found[f"levels {levels}"] = ir.load(path)
    return found


def source(data: object = CNN / "evaluation.npz", limit: int | None = 50) -> CheckedSource:
    found = open_source(data, front(CNN / "model.onnx").inputs, limit=limit)  # type: ignore[arg-type]
    assert isinstance(found, CheckedSource)
    return found


def bits(evaluations: dict[str, Evaluation]) -> Any:
    """Everything that evaluations hold."""
    return {
        name: (found.measure, [record_to_json(one) for one in found.records], found.value, dict(found.output_sqnr_db))
        for name, found in evaluations.items()
    }


@pytest.fixture(scope="module")
def expected(original: ir.Model, models: dict[str, ir.Model]) -> Any:
    found = evaluate(Runner(original), {name: Runner(model) for name, model in models.items()}, source())
    assert found["float"].value > found["levels 3"].value and found["float"].samples == 50
    return bits(found)


def test_in_shards_it_is_what_it_is_in_one_piece(
    original: ir.Model, models: dict[str, ir.Model], expected: Any
) -> None:
    said = list[tuple[int, int | None]]()
    found = Evaluations(original, source()).evaluate(models, tell=lambda done, total: said.append((done, total)))
    assert bits(found) == expected
    assert said == [(16, 50), (32, 50), (48, 50), (50, 50)]


def test_by_worker_processes_it_is_the_same(original: ir.Model, models: dict[str, ir.Model], expected: Any) -> None:
    samples = list(source())
    with open_executor(workers=2) as crew:
        for data in (source(), samples):
            assert bits(Evaluations(original, data, crew=crew).evaluate(models)) == expected


def test_what_was_evaluated_is_not_run_again(
    tmp_path: Path, original: ir.Model, models: dict[str, ir.Model], expected: Any
) -> None:
    first = Evaluations(original, source(), journal=Journal.open(tmp_path, KEY))
    assert bits(first.evaluate(models)) == expected and first.runs == 12
    again = Evaluations(original, source(), journal=Journal.open(tmp_path, KEY))
    assert bits(again.evaluate(models)) == expected and again.runs == 0
    # other data, another session, another metric, another model: all are run
    for changed in (
        Evaluations(original, source(limit=10), journal=Journal.open(tmp_path, KEY)),
        Evaluations(original, source(), journal=Journal.open(tmp_path, KEY), config=SessionConfig("basic")),
        Evaluations(original, source(), journal=Journal.open(tmp_path, KEY), metric=f"{__name__}:margin"),
        Evaluations(models["levels 8"], source(), journal=Journal.open(tmp_path, KEY)),
    ):
        changed.evaluate({"levels 3": models["levels 3"]})
        assert changed.runs in (1, 4)


def test_a_search_that_was_stopped_goes_on_where_it_was(
    tmp_path: Path, original: ir.Model, models: dict[str, ir.Model], expected: Any
) -> None:
    first = Evaluations(original, source(), journal=Journal.open(tmp_path, KEY))
    shards = first.sweep(models)
    next(shards)
    next(shards)
    shards.close()
    file = Journal.open(tmp_path, KEY).file
    assert file is not None
    file.write_bytes(file.read_bytes()[:-40])
    rest = Evaluations(original, source(), journal=Journal.open(tmp_path, KEY))
    assert bits(rest.evaluate(models)) == expected
    assert rest.runs == 12 - 6 + 1


def test_a_model_that_is_taken_out_is_run_no_further(original: ir.Model, models: dict[str, ir.Model]) -> None:
    some, evaluations, seen = dict(models), Evaluations(original, source()), []
    for shard, found in evaluations.sweep(some):
        seen.append((shard.start, sorted(found)))
        some.pop("levels 3", None)
    assert seen[0] == (0, ["float", "levels 3", "levels 8"]) and seen[1:] == [
        (i, ["float", "levels 8"]) for i in (16, 32, 48)
    ]
    assert evaluations.runs == 3 + 3 * 2
    assert evaluations.evaluate(models, first=20)["float"].samples == 32


def margin(outputs: dict[str, Any], label: Any) -> float:
    scores = np.sort(next(iter(outputs.values())).ravel())
    return float(scores[-1] - scores[-2])


def test_a_function_of_this_process_is_used_and_not_written_down(
    tmp_path: Path, original: ir.Model, models: dict[str, ir.Model]
) -> None:
    for _ in range(2):
        journal = Journal.open(tmp_path, KEY)
        evaluations = Evaluations(original, source(), metric=margin, journal=journal)
        assert evaluations.evaluate({"a": models["levels 3"]})["a"].value > 0
        assert evaluations.runs == 4 and len(journal) == 0


def test_where_files_are_not_seen_the_samples_are_sent(
    original: ir.Model, expected: Any, models: dict[str, ir.Model]
) -> None:
    with open_executor(workers=1) as crew:
        evaluations = Evaluations(original, source(), crew=crew)
        again = evaluations._feeding._again
        assert again is not None
        evaluations._feeding._again = type(again)(str(CNN / "elsewhere.npz"), again.inputs, again.limit)
        assert bits(evaluations.evaluate(models)) == expected


def test_other_samples_than_expected_are_noticed() -> None:
    evaluations = source()
    assert evaluations.again is not None
    with pytest.raises(UnseenError, match="other samples"):
        samples_of(Part(evaluations.again, Shard(0, 2, "0" * 64)))


def test_data_that_changes_between_readings_is_refused(original: ir.Model, models: dict[str, ir.Model]) -> None:
    image = front(CNN / "model.onnx").inputs[0]
    numbers = iter(range(100))

    def make() -> Iterator[dict[str, np.ndarray]]:
        value = next(numbers)
        yield from ({image.name: np.full([1, 1, 32, 32], value + i, np.float32)} for i in range(20))

    evaluations = Evaluations(original, source(make, None))
    with pytest.raises(DataError, match="other samples"):
        for name in ("levels 8", "levels 3"):
            evaluations.evaluate({"a": models[name]})


def test_records_survive_json() -> None:
    record = Record("a", np.array([0.1, np.nan]), np.array([True]), np.zeros(0, np.bool_), {"y": (0.1, float("inf"))})
    again = record_from_json(record_to_json(record))
    assert record_to_json(again) == record_to_json(record)
    assert again.scores.dtype == np.bool_ and again.power == record.power and again.same.shape == (0,)


def test_without_samples_the_data_is_named(original: ir.Model) -> None:
    with pytest.raises(DataError, match="no samples"):
        Evaluations(original, list[Sample]()).evaluate({"a": original})


def test_inputs_travel() -> None:
    again = source().again
    assert again is not None and all(isinstance(info, InputInfo) for info in again.inputs)
    hash(again)
