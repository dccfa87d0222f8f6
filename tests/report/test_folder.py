"""The output folder: whole or not at all, and nothing that a killed process left stays behind."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from qcompiler.report.folder import output_folder

WRITER = """
import sys
from pathlib import Path
from qcompiler.report.folder import output_folder
with output_folder(Path(sys.argv[1])) as work:
    (work / "half").write_text("x")
    print(work, flush=True)
    sys.stdin.read()
"""


def writer(path: Path) -> tuple[subprocess.Popen[str], Path]:
    """A process that writes to an output folder until it is told to end."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def write(path: Path) -> None:
    with output_folder(path) as work:
        (work / "report.json").write_text("{}")


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path) -> None:
    out = tmp_path / "a[b]"
    process, work = writer(out)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (work / "half").is_file() and not out.exists()
    write(out)
    assert [path.name for path in tmp_path.iterdir()] == ["a[b]"]


def test_what_another_process_still_writes_to_stays(tmp_path: Path) -> None:
    out = tmp_path / "out"
    process, work = writer(out)
    write(out)
    assert (work / "half").is_file() and (out / "report.json").is_file()
    process.communicate("", timeout=30)
    assert process.returncode == 0 and [path.name for path in tmp_path.iterdir()] == ["out"]


def test_hidden_folders_of_others_stay(tmp_path: Path) -> None:
    for name in (".out-original", ".out", ".out2-qcompile-12345678"):
        (tmp_path / name).mkdir()
    write(tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"out", ".out-original", ".out", ".out2-qcompile-12345678"}


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), output_folder(tmp_path / "out") as work:
        (work / "half").write_text("x")
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
