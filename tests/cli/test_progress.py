from __future__ import annotations

import os
import re
import sys
import time
from pathlib import Path

import pytest

from qcompiler.cli import progress
from qcompiler.cli.progress import Bar
from tests.cli.test_compile import start


def test_nothing_is_drawn_for_short_work_nor_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    for bar in (Bar(), Bar(False, terminal=True), Bar(terminal=True)):
        with bar as tell:
            tell("calibrate", 1, 2)
    assert capsys.readouterr().err == ""


def test_work_that_lasts_is_drawn_stage_by_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "DELAY", 0.05)
    bar = Bar(terminal=True)
    with bar as tell:
        tell("calibrate", 1, 10)
        time.sleep(0.4)
        assert bar._progress is not None
        tell("calibrate", 7, 10)
        tell("judge", 0, None)
        tasks = {task.description: task for task in bar._progress.tasks}
        assert (tasks["calibrate"].completed, tasks["calibrate"].total, tasks["calibrate"].visible) == (7, 10, False)
        assert tasks["judge"].total is None and tasks["judge"].visible
    tell("late", 1, 1)


@pytest.mark.parametrize("width", [24, 40, 80, 200])
def test_the_line_fits_and_says_how_much_time_is_left(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "DELAY", 0.01)
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    with Bar(terminal=True) as tell:
        for done in range(6):
            tell("a stage with a rather long name", done, 1000)
            time.sleep(0.2)
    drawn = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().err)
    lines = [line for line in re.split(r"[\r\n]+", drawn) if line.strip()]
    assert lines and all(len(line) <= width for line in lines), lines
    assert all("a" in line for line in lines)
    if width >= 80:
        assert any(re.search(r" \d+:\d+ left", line) for line in lines), lines


@pytest.mark.skipif(sys.platform != "linux", reason="pseudo-terminals as Linux has them")
def test_a_terminal_sees_the_stages_on_stderr_and_stdout_stays_clean(tmp_path: Path) -> None:
    master, slave = os.openpty()
    with (tmp_path / "stdout").open("w") as stdout:
        process = start(tmp_path, stdout=stdout, stderr=slave)
        os.close(slave)
        drawn = b""
        while True:
            try:
                chunk = os.read(master, 4096)
            except OSError:  # the other end is closed
                break
            if not chunk:
                break
            drawn += chunk
    os.close(master)
    assert process.wait(60) == 0
    assert b"calibrate" in drawn and re.search(rb"m[1-9]\d*/", drawn), drawn
    text = (tmp_path / "stdout").read_text()
    assert text.startswith("model.onnx -> ") and "\x1b" not in text
