"""A decoder larger than memory compiled to w4: peak memory, seconds for each billion parameters, and the run resumed.

    python -m benchmarks.large_models FOLDER [--layers 21] [--width 4096] [--hidden 11008] [--method rtn]
                                      [--samples 8] [--length 256] [--limit-mib 3072] [--kill 0.5]

FOLDER gets the decoder (`models.decoder`, 8 GB of float16 unless there are fewer layers; one that is there is taken)
and what is made of it. With `--samples` it is calibrated, and judged, on so many rows of made-up tokens. With `--kill`
the compile is killed (SIGKILL) when that share of its weights is finished, run again, and compared with one that was
left alone. Peak memory is that of the process, pages of mapped files included.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx

from models.decoder import Sizes, write


class Run(NamedTuple):
    """A compile: seconds of the clock, seconds of the processor, peak MiB, and whether it was killed."""

    seconds: float
    cpu: float
    peak: float
    killed: bool


def tokens(model: Path, file: Path, samples: int, length: int, seed: int) -> Path:
    """Made-up tokens with an empty cache."""
    rng, feed = np.random.default_rng(seed), dict[str, np.ndarray]()
    graph = onnx.load(model, load_external_data=False).graph
    vocabulary = next(tensor.dims[0] for tensor in graph.initializer if len(tensor.dims) == 2)
    for info in graph.input:
        dims = [dim.dim_value for dim in info.type.tensor_type.shape.dim]
        kind = onnx.helper.tensor_dtype_to_np_dtype(info.type.tensor_type.elem_type)
        past = len(dims) == 4
        feed[info.name] = np.zeros((samples, dims[1], 0, dims[3]), kind) if past else np.ones((samples, length), kind)
    feed["input_ids"] = rng.integers(0, vocabulary, (samples, length))
    np.savez(file, **feed)
    return file


def compiled(model: Path, output: Path, journal: Path, options: Sequence[str], kill_after: int = 0) -> Run:
    """One compile; killed when so many weights are finished."""
    command = [sys.executable, "-m", "qcompiler", str(model), "--target", "onnxruntime", "--precision", "w4", "-q"]
    command += [*options, "--on-disk", "-o", str(output), "--journal", str(journal)]
    start = time.perf_counter()
    process = subprocess.Popen(command)
    while kill_after:
        done = sum(file.read_bytes().count(b'"about"') for file in journal.glob("shelves/*.jsonl"))
        if done >= kill_after:
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.2)
    _, status, usage = os.wait4(process.pid, 0)
    if not kill_after and status:
        raise SystemExit(f"status {status}: {' '.join(command)}")
    unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
    return Run(time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / unit, bool(status))


def digest(folder: Path) -> str:
    """Of the model and its weights."""
    found = hashlib.sha256()
    for name in ("model.onnx", "model.onnx.data"):
        with (folder / name).open("rb") as file:
            found.update(hashlib.file_digest(file, "sha256").digest())
    return found.hexdigest()


def main() -> None:
    """Prints a line for each run; fails where a bound is broken or bytes differ."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--layers", type=int, default=Sizes.layers)
    parser.add_argument("--method", default="rtn")
    parser.add_argument("--limit-mib", type=float, default=3072)
    parser.add_argument("--kill", type=float, default=0.0)
    parser.add_argument("--samples", type=int, default=0)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--width", type=int, default=Sizes.width)
    parser.add_argument("--hidden", type=int, default=Sizes.hidden)
    given = parser.parse_args()
    model = given.folder / "model.onnx"
    if not model.exists():
        write(given.folder, Sizes(layers=given.layers, width=given.width, hidden=given.hidden))
    weights = [t for t in onnx.load(model, load_external_data=False).graph.initializer if len(t.dims) == 2]
    billions = sum(t.dims[0] * t.dims[1] for t in weights) / 1e9
    size = (given.folder / "model.onnx.data").stat().st_size
    print(f"{size / 1e9:.2f} GB, {billions:.2f} billion parameters, {given.method}", flush=True)
    journal, output = given.folder / "journal", given.folder / "out"
    runs, made, options = {}, [], ["--weight-method", given.method]
    if given.samples:
        for number, name in enumerate(("data", "eval")):
            file = tokens(model, given.folder / f"{name}.npz", given.samples, given.length, number)
            options += [f"--{name}", str(file)]
        options += ["--metric", "kl", "--max-drop", "none"]
    if given.kill:
        runs["killed"] = compiled(model, output, journal, options, int(given.kill * len(weights)))
        runs["resumed"] = compiled(model, output, journal, options)
        made.append(digest(output))
    runs["whole"] = compiled(model, output, journal, options)
    made.append(digest(output))
    for name, run in runs.items():
        each = (
            "" if name != "whole" else f", {run.seconds / billions:.0f} s ({run.cpu / billions:.0f} s of CPU) a billion"
        )
        print(f"{name}: {run.seconds:.0f} s ({run.cpu:.0f} s of CPU), peak {run.peak:.0f} MiB{each}")
    print(f"quantized: {(output / 'model.onnx.data').stat().st_size / 1e9:.2f} GB")
    if len(set(made)) > 1:
        raise SystemExit("the bytes of the resumed run differ")
    if max(run.peak for run in runs.values()) > given.limit_mib:
        raise SystemExit(f"more than {given.limit_mib} MiB")
    shutil.rmtree(output)


if __name__ == "__main__":
    main()
