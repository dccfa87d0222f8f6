"""Statistics by several workers have the bytes of one; a cluster that loses a worker in the middle gives the same."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from qcompiler import ir
from qcompiler.analysis import CHANNEL_RANGE, HISTOGRAM, ChannelHistogramKind, Payload, Stats, collect, fingerprint
from qcompiler.analysis.stats_file import to_bytes
from qcompiler.data import Sample
from qcompiler.data.shards import Shard
from qcompiler.errors import DataError
from qcompiler.search import evaluations as module
from qcompiler.search.calibration import calibrated, in_runs
from qcompiler.search.evaluations import Evaluations
from qcompiler.search.executors import Crew, open_executor
from qcompiler.search.journal import Journal, content_key
from tests.search.test_evaluations import CNN, bits, source
from tests.search.workers import dask_cluster

KINDS = (HISTOGRAM, ChannelHistogramKind(1), CHANNEL_RANGE)


@pytest.fixture(scope="module")
def model() -> ir.Model:
    return ir.load(CNN / "model.onnx")


def wanted(model: ir.Model) -> dict[str, tuple[object, ...]]:
    shaped = {t.name: t for node in model.nodes for t in node.outputs if t.dtype is not None and t.shape is not None}
    return {name: KINDS if len(t.shape) == 4 else (HISTOGRAM,) for name, t in shaped.items()}


def counted(model: ir.Model, crew: Crew | None, journal: Journal | None = None, data: object = None) -> bytes:
    samples = source(limit=70) if data is None else data
    return to_bytes(calibrated(model, samples, wanted(model), memory_budget=64 << 20, crew=crew, journal=journal))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def expected(model: ir.Model) -> bytes:
    return to_bytes(collect(model, source(limit=70), wanted(model)))  # type: ignore[arg-type]


def test_by_worker_processes_the_bytes_are_the_same(model: ir.Model, expected: bytes) -> None:
    assert counted(model, None) == expected
    with open_executor(workers=2) as crew:
        assert counted(model, crew) == expected
        assert counted(model, crew, data=list(source(limit=70))) == expected
        with pytest.raises(DataError, match="no samples"):
            counted(model, crew, data=[])
        bad = [*source(limit=40), Sample({"image": np.full((1, 1, 32, 32), 3e38, np.float32)}, None, "bad one")]
        with pytest.raises(DataError, match="bad one"):
            counted(model, crew, data=bad)


def test_statistics_are_kept(tmp_path: Path, model: ir.Model, expected: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal.open(tmp_path, content_key("x"))
    assert counted(model, None, journal) == expected
    (file,) = tmp_path.iterdir()
    with monkeypatch.context() as patch:
        patch.setattr("qcompiler.search.calibration.collect", None)
        assert counted(model, None, journal) == expected
    file.write_bytes(file.read_bytes()[:-100])
    assert counted(model, None, journal) == expected
    assert Stats.load(file).samples == 70


def test_a_cluster_that_loses_a_worker_in_the_middle_gives_the_same(
    tmp_path: Path, model: ir.Model, expected: bytes
) -> None:
    pytest.importorskip("distributed")
    alone = Evaluations(model, source()).evaluate({"a": model})
    with dask_cluster(tmp_path) as (address, started), open_executor(cluster=address) as crew:
        crew.client.wait_for_workers(2, timeout=30)  # type: ignore[attr-defined]
        evaluations, done = Evaluations(model, source(), crew=crew), []
        for shard, found in evaluations.sweep({"a": model}):
            done += found["a"]
            if shard.start == 16:
                os.kill(started[0].pid, signal.SIGKILL)
        assert bits({"a": module.Evaluation.of(evaluations.measure, done)}) == bits(alone)
        assert counted(model, crew) == expected
        assert [process.poll() is None for process in started] == [False, True]
        assert counted(model, crew, data=list(source(limit=70))) == expected


def test_runs_are_of_about_one_length() -> None:
    shards = [Shard(16 * i, 16 * i + 16, "") for i in range(10)]
    for number in (1, 2, 3, 10, 40):
        runs = in_runs(shards, number)
        assert [shard for run in runs for shard in run] == shards
        assert len(runs) == min(number, 10) and max(map(len, runs)) - min(map(len, runs)) <= 1
    assert in_runs([], 3) == []


@pytest.mark.zoo
@pytest.mark.parametrize("name", ["mobilenetv3_small", "silero_vad"])
def test_a_payload_gives_the_model_back(zoo: ModuleType, name: str) -> None:
    model = ir.load(zoo.HERE / f"{name}.onnx")
    for apart in (False, True):
        payload = Payload.of(model, apart=apart)
        again = payload.model()
        assert fingerprint(again) == fingerprint(model)
        assert Payload.of(again, apart=apart).digest == payload.digest
        assert bool(payload.weights) == apart
