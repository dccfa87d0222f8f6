"""Every zoo model through the command line, beside ONNX Runtime's own quantizer, in one run.

    python -m benchmarks.zoo [NAME ...] [--threads 1] [--json FILE]

Accuracy is that of the zoo's evaluation part; calibration uses its calibration part alone. Latencies are medians of
alternating blocks in this process. `ort` is the better of min-max and percentile static quantization, or dynamic
quantization, whichever is faster among those within the tolerance of float (see `TOLERANCE`), else the most accurate.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from benchmarks import peers, zoo_data

TOLERANCE = 0.01
"""Loss of the metric (share of the float value) up to which a result counts as accurate."""


def session(path: Path, threads: int) -> ort.InferenceSession:
    """A session as a deployer makes it."""
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def metric(entry: Any, path: Path) -> float:
    """The zoo's metric of a model file."""
    run = session(path, 1)
    return float(entry.evaluate(lambda feed: run.run(None, feed)))


def latencies(
    paths: dict[str, Path], feed: dict[str, np.ndarray], threads: int, seconds: float = 3.0
) -> dict[str, float]:
    """Median milliseconds of each model, measured in alternating blocks of up to 40 runs."""
    sessions = {name: session(path, threads) for name, path in paths.items()}
    times: dict[str, list[float]] = {name: [] for name in sessions}
    for run in sessions.values():
        for _ in range(3):
            run.run(None, feed)
    once = {name: timed(run, feed) for name, run in sessions.items()}
    for _ in range(5):
        for name, run in sessions.items():
            for _ in range(max(3, min(40, int(seconds / 5 / max(once[name], 1e-6))))):
                times[name].append(timed(run, feed))
    return {name: float(np.median(values)) * 1e3 for name, values in times.items()}


def timed(run: ort.InferenceSession, feed: dict[str, np.ndarray]) -> float:
    """Seconds of one run."""
    start = time.perf_counter()
    run.run(None, feed)
    return time.perf_counter() - start


def ours(path: Path, data: Path, output: Path) -> dict[str, Any]:
    """Our result, through the command line; gives its report."""
    command = [sys.executable, "-m", "qcompiler", str(path), "--target", "onnxruntime", "--data", str(data)]
    done = subprocess.run([*command, "-o", str(output), "--json"], capture_output=True, text=True, check=False)
    if not (output / "report.json").is_file():
        raise SystemExit(f"{path.name}: exit {done.returncode}: {done.stderr}")
    report: dict[str, Any] = json.loads((output / "report.json").read_text())
    return {**report, "exit": done.returncode}


def bench_feed(name: str, feeds: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """What latency is measured on: a calibration sample; for sentences one of 128 tokens."""
    if name.startswith("minilm"):
        ids = np.resize(np.concatenate([feed["input_ids"] for feed in feeds[:16]], axis=1), (1, 128))
        return {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    return feeds[0]


def bench(name: str, entry: Any, threads: int, work: Path) -> dict[str, Any]:
    """One row of the table."""
    feeds = zoo_data.feeds(entry)
    start = time.perf_counter()
    report = ours(entry.path, zoo_data.calibration_folder(entry, work / "data"), work / "ours")
    seconds = time.perf_counter() - start
    models = {"float": entry.path, "ours": work / "ours" / "model.onnx"}
    makers = {
        "ort minmax": lambda out: peers.static(entry.path, feeds, "MinMax", out),
        # Percentile keeps every activation of every sample in memory, so it gets fewer of them.
        "ort percentile": lambda out: peers.static(entry.path, feeds[:24], "Percentile", out),
        "ort dynamic": lambda out: peers.dynamic(entry.path, out),
    }
    for label, make in makers.items():
        try:
            models[label] = make(work / f"{label.replace(' ', '_')}.onnx")
            session(models[label], 1)
        except Exception as error:  # a peer that fails has no row
            print(f"  {name}: {label}: {type(error).__name__}: {str(error)[:100]}", file=sys.stderr)
            models.pop(label, None)
    metrics = {label: metric(entry, path) for label, path in models.items()}
    times = latencies(models, bench_feed(name, feeds), threads)
    row: dict[str, Any] = {"model": name, "metric": entry.metric, "precision": report["target"]["shipped"]}
    row |= {"exit": report["exit"], "compile_seconds": round(seconds, 1), "threads": threads}
    for label in models:
        row[label] = {"metric": round(metrics[label], 4), "speedup": round(times["float"] / times[label], 3)}
    row["ort"] = best_peer(row, entry.higher_is_better)
    return row


def best_peer(row: dict[str, Any], higher_is_better: bool) -> str:
    """The label of the peer to compare with."""
    sign, wanted = (1, row["float"]["metric"]) if higher_is_better else (-1, row["float"]["metric"])
    labels = [label for label in row if label.startswith("ort ")]
    loss = {label: sign * (wanted - row[label]["metric"]) / abs(wanted) for label in labels}
    holding = [label for label in labels if loss[label] <= TOLERANCE]
    if holding:
        return max(holding, key=lambda label: row[label]["speedup"])
    return min(labels, key=loss.__getitem__, default="")


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    zoo, rows = zoo_data.load(), []
    print(f"{'model':18} {'float':>8} {'ours':>8} {'x':>6} {'':6} {'best ORT':>8} {'x':>6}  setting")
    for name in arguments.names or zoo.MODELS:
        with tempfile.TemporaryDirectory() as work:
            row = bench(name, zoo.MODELS[name], arguments.threads, Path(work))
        rows.append(row)
        peer = row.get(row["ort"], {"metric": float("nan"), "speedup": float("nan")})
        print(
            f"{name:18} {row['float']['metric']:8.4f} {row['ours']['metric']:8.4f} {row['ours']['speedup']:6.2f} "
            f"{row['precision']:6} {peer['metric']:8.4f} {peer['speedup']:6.2f}  {row['ort']}",
            flush=True,
        )
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
