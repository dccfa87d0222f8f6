"""A compile whole, killed in the middle and run again, repeated, and by two workers: seconds, and whether bytes agree.

    python -m benchmarks.resume [--models mobilenetv3_small,...] [--samples 128] [--kills 3]

`killed` is the time of the run that goes on from the journal of one that was killed (SIGKILL) after a part of the
records was written; `repeat` that of the same compile with everything known. Latency is not measured
(--bench-seconds 0), so what is left is calibration, evaluation and the passes.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import zoo_data

FILES = ("model.onnx", "plan.json", "stats.npz")


def data_of(entry: Any, count: int, folder: Path) -> tuple[Path, Path]:
    """Calibration and evaluation samples of a classifier of the zoo, as files."""
    calibration = zoo_data.calibration_folder(zoo_data.feeds(entry, count), folder / "calibration")
    evaluation = folder / "evaluation"
    evaluation.mkdir()
    for number, (feed, label) in zip(range(count), entry.samples(), strict=False):
        arrays: dict[str, Any] = {**feed, **({} if label is None else {"label": np.asarray(label)})}
        np.savez(evaluation / f"{number:05d}.npz", **arrays)
    return calibration, evaluation


def command(model: Path, data: tuple[Path, Path], *options: str) -> list[str]:
    """A compile; output and journal are in the present folder."""
    line = [sys.executable, "-m", "qcompiler", str(model), "--target", "onnxruntime", "--data", str(data[0])]
    return [*line, "--eval", str(data[1]), "--bench-seconds", "0", "-q", *options]


def timed(line: list[str], folder: Path) -> float:
    """Seconds of a compile; the contract may be undecided on so few samples."""
    start = time.perf_counter()
    status = subprocess.run(line, cwd=folder, check=False).returncode
    if status not in (0, 3, 4):
        raise SystemExit(f"status {status}: {' '.join(line)}")
    return time.perf_counter() - start


def records(folder: Path) -> int:
    """How many records the journals of a folder hold."""
    found = 0
    for file in folder.glob("journal/*.jsonl"):
        with contextlib.suppress(OSError):
            found += file.read_bytes().count(b"\n")
    return found


def killed(line: list[str], folder: Path, journal: Path, at: int) -> bool:
    """Runs a compile until so many records are written, and kills it; whether it came to that."""
    process = subprocess.Popen(line, cwd=folder)
    while process.poll() is None and records(journal) < at:
        time.sleep(0.005)
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def digest(folder: Path) -> str:
    """sha256 over the files that a compile is repeated for."""
    found = hashlib.sha256()
    for name in FILES:
        if (folder / name).is_file():
            found.update((folder / name).read_bytes())
    return found.hexdigest()[:12]


def measure(name: str, count: int, kills: int, folder: Path) -> None:
    """One line of the table for each kind of run."""
    entry = zoo_data.load().MODELS[name]
    data = data_of(entry, count, folder)

    def line(out: str, *options: str) -> list[str]:
        return command(entry.path, data, "-o", out, *options)

    def say(kind: str, seconds: float, out: str, note: str = "") -> None:
        print(f"{name:20s} {kind:14s} {seconds:7.1f} s  {digest(folder / out)}  {note}", flush=True)

    say("whole", timed(line("whole", "--journal", "none"), folder), "whole")
    say("with journal", timed(line("first", "--journal", "j"), folder), "first", f"{records(folder / 'j')} records")
    say("repeat", timed(line("repeat", "--journal", "j"), folder), "repeat")
    total = records(folder / "j")
    for kill in range(1, kills + 1):
        at, journal = max(1, total * kill // (kills + 1)), folder / f"j{kill}"
        options = ("--journal", journal.name)
        happened = killed(line(f"killed{kill}", *options), folder, journal, at)
        note = f"killed at {records(journal)} of {total} records" if happened else "ended before it was killed"
        say("killed, again", timed(line(f"killed{kill}", *options), folder), f"killed{kill}", note)
    say("--workers 2", timed(line("two", "--journal", "none", "--workers", "2"), folder), "two")


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else "")
    parser.add_argument("--models", default="mobilenetv3_small,resnet20_cifar10")
    parser.add_argument("--samples", type=int, default=128)
    parser.add_argument("--kills", type=int, default=3)
    args = parser.parse_args()
    for name in args.models.split(","):
        with tempfile.TemporaryDirectory() as folder:
            measure(name, args.samples, args.kills, Path(folder))


if __name__ == "__main__":
    main()
