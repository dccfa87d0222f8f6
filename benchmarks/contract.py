"""The contract on the model zoo, `--max-drop 1%` at the default preset, beside ONNX Runtime's quantizer and NNCF.

    python -m benchmarks.contract [NAME ...] [--nncf PYTHON] [--seconds 2] [--json FILE]

Calibration uses the zoo's calibration part, the contract its evaluation part. Every model that comes out, ours and the
peers', is then judged by the zoo's own metric on the evaluation part and timed in alternating blocks of one process, on
one thread. NNCF runs under another interpreter, in an environment of its own (`python -m venv E; E/bin/pip install nncf
onnx onnxruntime`); without --nncf it is left out.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import speed, zoo_data
from benchmarks.timing import latencies
from qcompiler.analysis import SessionConfig

METRICS = {
    "stories260k": "perplexity", "ppocrv3_det": "f1:0.3", "silero_vad": "benchmarks.zoo_metrics:speech",
    "yunet_320": "benchmarks.zoo_metrics:faces",
}  # fmt: skip
"""What the contract is about, where labels or outputs do not say."""
TRANSFORMERS = ("vit_cifar10", "minilm_l6", "stories260k")
HERE = Path(__file__).resolve().parents[1]


def evaluation_folder(name: str, samples: Iterable[tuple[dict[str, np.ndarray], object]], folder: Path) -> Path:
    """Evaluation data as a folder of `.npz` files with labels, where there are any."""
    from benchmarks.zoo_metrics import labelled

    folder.mkdir(parents=True)
    for number, (feed, label) in enumerate(labelled(name, samples)):
        extra = {} if label is None else {"labels": np.asarray(label)[None]}
        arrays: dict[str, Any] = {**feed, **extra}
        np.savez(folder / f"{number:05d}.npz", **arrays)
    return folder


def ours(name: str, net: speed.Network, entry: Any, work: Path) -> dict[str, Any]:
    """The report of our compile, whose model lies in `work`/ours."""
    calibration = zoo_data.calibration_folder(net.feeds, work / "calibration")
    evaluation = evaluation_folder(name, entry.samples(), work / "evaluation")
    command = [
        sys.executable, "-m", "qcompiler", str(net.path), "--target", "onnxruntime", "--data", str(calibration),
        "--eval", str(evaluation), "--max-drop", "1%", "-o", str(work / "ours"), "--json", "-q",
    ]  # fmt: skip
    command += ["--metric", METRICS[name]] if name in METRICS else []
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=HERE)
    if not (work / "ours" / "report.json").is_file():
        raise RuntimeError(f"exit {done.returncode}: {done.stderr.strip()[-300:]}")
    report: dict[str, Any] = json.loads((work / "ours" / "report.json").read_text(encoding="utf-8"))
    return {**report, "exit": done.returncode, "seconds": round(time.perf_counter() - start, 1)}


def nncf(python: str, name: str, net: speed.Network, work: Path) -> Path | None:
    """NNCF's model; None where it fails."""
    script, output = Path(__file__).with_name("nncf_peer.py"), work / "nncf.onnx"
    command = [python, str(script), str(net.path), str(work / "calibration"), str(output)]
    command += ["transformer"] if name in TRANSFORMERS else []
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if not output.is_file():
        print(f"  {name}: nncf: {done.stderr.strip().splitlines()[-1][:120]}", file=sys.stderr)
        return None
    return output


def bench(name: str, python: str | None, seconds: float) -> dict[str, Any]:
    """Everything about one network."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        entry = zoo_data.load().MODELS[name]
        net = speed.network(name, work)
        report = ours(name, net, entry, work)
        paths = {"float": net.path, "ours": work / "ours" / "model.onnx", **speed.theirs(net, work)}
        made = nncf(python, name, net, work) if python else None
        paths |= {"nncf": made} if made is not None else {}
        plain = SessionConfig()
        times = latencies({label: (path, plain) for label, path in paths.items()}, [net.bench], 1, seconds)
        results = {
            label: {"metric": speed.metric(net, path), "bytes": path.stat().st_size, **times[label]}
            for label, path in paths.items()
        }
    return {
        "model": name, "metric": net.metric, "exit": report["exit"], "seconds": report["seconds"],
        "accuracy": report["accuracy"], "shipped": report["target"]["shipped"],
        "nodes": [report["backend"]["integer_nodes"], report["backend"]["float_nodes"]],
        "evaluated": len(report["search"].get("steps", [])), "results": results,
    }  # fmt: skip


def table(row: dict[str, Any]) -> list[str]:
    """A line for each model that came out."""
    accuracy = row["accuracy"]
    lines = []
    for label, result in row["results"].items():
        cells = [f"{row['model'] if label == 'float' else '':18}", f"{label:15}", f"{result['metric']:8.4f}"]
        cells += [f"{result['speedup']:6.2f} +-{result['noise']:4.2f}", f"{result['bytes'] / 1e6:8.2f} MB"]
        if label == "ours":
            drop = "-" if accuracy["drop"] is None else f"{accuracy['drop']:.4f}"
            cells.append(
                f" {accuracy['verdict']} (exit {row['exit']}), {accuracy['metric']} drop {drop},"
                f" {row['nodes'][0]} integer {row['nodes'][1]} float, {row['evaluated']} plans, {row['seconds']} s"
            )
        lines.append(" ".join(cells))
    return lines


def main() -> None:
    """Prints the table, writes JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="models of the zoo; all by default")
    parser.add_argument("--nncf", metavar="PYTHON", help="an interpreter that has NNCF")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each model's times")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = []
    for name in arguments.names or list(zoo_data.load().MODELS):
        try:
            row = bench(name, arguments.nncf, arguments.seconds)
        except (RuntimeError, KeyError) as error:
            print(f"{name:18} failed: {error}", flush=True)
            continue
        rows.append(row)
        print("\n".join(table(row)), flush=True)
        if arguments.json:
            arguments.json.parent.mkdir(parents=True, exist_ok=True)
            arguments.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
