"""A compile that is killed in the middle, at any place, ends with the same bytes when it is run again."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.conftest import CNN, Run

WORK = (
    CNN / "model.onnx", "--target", "onnxruntime", "--data", CNN / "calibration.npz", "--eval", CNN / "evaluation.npz",
    "--samples", "40", "--bench-seconds", "0", "-q",
)  # fmt: skip
FILES = ("model.onnx", "plan.json", "stats.npz")


def content(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in FILES}


def killed_once(folder: Path, lines: int, *options: str) -> bool:
    """Runs the compile and kills it as soon as its journal has so many records; whether it came to that."""
    command = [sys.executable, "-m", "qcompiler", *map(str, WORK), "--journal", "journal", "-o", "out", *options]
    process = subprocess.Popen(command, cwd=folder, start_new_session=True)
    while process.poll() is None:
        done = 0
        for file in (folder / "journal").glob("journal/*.jsonl"):
            with contextlib.suppress(OSError):
                done += file.read_bytes().count(b"\n")
        if done >= lines:
            os.kill(process.pid, signal.SIGKILL)
        time.sleep(0.001)
    return process.wait() == -signal.SIGKILL


@pytest.mark.parametrize(("lines", "options"), [(1, ()), (40, ()), (8, ("--workers", "2"))])
def test_the_rerun_of_a_killed_compile_gives_the_same_bytes(
    run: Run, compiled_whole: dict[str, bytes], lines: int, options: tuple[str, ...]
) -> None:
    here = Path.cwd()
    assert killed_once(here, lines, *options)
    assert [path.name for path in here.iterdir() if not path.name.startswith(".")] == ["journal"]
    journal = next((here / "journal").glob("journal/*.jsonl"))
    before = journal.read_bytes()
    assert run(*WORK, "--journal", "journal", "-o", "out").exit_code == 0
    assert content(here / "out") == compiled_whole
    # what was known was not written again
    after = journal.read_bytes()
    assert after.startswith(before[: before.rfind(b"\n") + 1])
    keys = [line.split(b'"key":"')[1][:64] for line in after.splitlines() if line.count(b'"key"')]
    assert len(set(keys)) == len(keys)
    best = next((here / "journal").glob("journal/*.onnxruntime.plan.json"))
    assert best.read_bytes() == compiled_whole["plan.json"]


@pytest.fixture(scope="module")
def compiled_whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("whole")
    command = [sys.executable, "-m", "qcompiler", *map(str, WORK), "-o", "out"]
    subprocess.run(command, cwd=folder, check=True)
    return content(folder / "out")


def test_a_repeated_compile_runs_nothing_again(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(*WORK, "--journal", "journal", "-o", "out").exit_code == 0
    first = content(Path("out"))

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("is known already")

    monkeypatch.setattr("qcompiler.search.evaluations.judged", forbidden)
    monkeypatch.setattr("qcompiler.search.calibration.collect", forbidden)
    assert run(*WORK, "--journal", "journal", "-o", "out").exit_code == 0
    assert content(Path("out")) == first


def test_without_time_the_first_candidate_is_judged_and_shipped(run: Run) -> None:
    result = run(*WORK[:-1], "--time-budget", "0", "-o", "out")
    assert result.exit_code in (0, 4) and "the time is over" in result.stdout, result.output
    assert (Path("out") / "model.onnx").is_file()
    wrong = run(*WORK, "--time-budget", "soon")
    assert wrong.exit_code == 2 and "--time-budget" in wrong.stderr


def test_who_works_is_said_once(run: Run) -> None:
    both = run(*WORK, "--workers", "2", "--cluster", "tcp://127.0.0.1:1")
    assert both.exit_code == 2 and "only one at a time" in both.stderr
    assert run(*WORK, "--workers", "-1").exit_code == 2


def test_statistics_by_workers_are_the_same_file(run: Run) -> None:
    for name, options in (("a", ()), ("b", ("--workers", "2"))):
        data = ("--data", CNN / "calibration.npz", "--target", "onnxruntime", "--samples", "40", "-q")
        assert run("calibrate", CNN / "model.onnx", *data, "-o", name, *options).exit_code == 0
    assert Path("a").read_bytes() == Path("b").read_bytes()
