"""Float, ONNX Runtime's own quantizer, and ours, in one run: the model zoo and the networks of the onnx package.

    python -m benchmarks.speed [NAME ...] [--threads 1,2] [--seconds 1] [--json FILE]

Latency: medians and minima of runs in alternating blocks in this process, on one CPU for one thread; `+-` is the noise
of the speed-up, half the distance of the quartiles over blocks. `ours` runs under plain onnxruntime; where our result
has session options, `ours, session` runs under them.

Accuracy, for the zoo: its evaluation part; calibration uses its calibration part alone. `ort` is the better of min-max
and percentile static quantization, or dynamic quantization: whichever is faster on one thread among those within the
tolerance of float (`TOLERANCE`), else the most accurate. For networks with made-up weights it is the fastest.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime as ort

from benchmarks import light, peers, zoo_data
from benchmarks.timing import Feed, latencies, pinned
from qcompiler import ir
from qcompiler.analysis import SessionConfig
from qcompiler.analysis.cpu import cpu_flags
from qcompiler.analysis.session import config_at

TOLERANCE = 0.01
"""Loss of the metric (share of the float value) up to which a result counts as accurate."""

BUSY = 0.7
"""Load of the machine, before the start, from which on medians are doubtful."""

# Percentile keeps every activation of every sample in memory, so it gets fewer of them.
PERCENTILE_SAMPLES = 24
Evaluate = Callable[[Callable[[Feed], Any]], float]


@dataclass(frozen=True)
class Network:
    """One network: `evaluate` is None where the weights are made up."""

    name: str
    path: Path
    feeds: list[Feed]
    bench: Feed
    metric: str = ""
    evaluate: Evaluate | None = None
    higher_is_better: bool = True


def network(name: str, work: Path) -> Network:
    """The network of a name; "onnx/NAME" is one of the onnx package, with weights written to `work`."""
    if name.startswith("onnx/"):
        feeds = light.feeds(name.removeprefix("onnx/"))
        return Network(name, light.with_weights(name.removeprefix("onnx/"), work / "model.onnx"), feeds, feeds[0])
    entry = zoo_data.load().MODELS[name]
    feeds = zoo_data.feeds(entry)
    bench = zoo_data.bench_feed(name, feeds)
    return Network(name, entry.path, feeds, bench, entry.metric, entry.evaluate, entry.higher_is_better)


def names() -> list[str]:
    """Every network."""
    return [*zoo_data.load().MODELS, *(f"onnx/{name}" for name in light.names())]


def ours(net: Network, work: Path) -> dict[str, Any]:
    """Our result, through the command line, into `work`/ours; gives its report."""
    data, output = zoo_data.calibration_folder(net.feeds, work / "data"), work / "ours"
    command = [sys.executable, "-m", "qcompiler", str(net.path), "--target", "onnxruntime", "--data", str(data)]
    start = time.perf_counter()
    done = subprocess.run([*command, "-o", str(output), "--json"], capture_output=True, text=True, check=False)
    if not (output / "report.json").is_file():
        raise RuntimeError(f"exit {done.returncode}: {done.stderr.strip()}")
    report: dict[str, Any] = json.loads((output / "report.json").read_text(encoding="utf-8"))
    return {**report, "exit": done.returncode, "compile_seconds": round(time.perf_counter() - start, 1)}


def theirs(net: Network, work: Path) -> dict[str, Path]:
    """What ONNX Runtime's quantizer makes of the network, by setting; one that fails is left out."""
    makers: dict[str, Callable[[Path], Path]] = {
        "ort minmax": lambda out: peers.static(net.path, net.feeds, "MinMax", out),
        "ort dynamic": lambda out: peers.dynamic(net.path, out),
    }
    if net.evaluate is not None:  # it is as fast as min-max; only accuracy tells them apart
        makers["ort percentile"] = lambda out: peers.static(net.path, net.feeds[:PERCENTILE_SAMPLES], "Percentile", out)
    found = {}
    for label, make in makers.items():
        try:
            with redirect_stdout(io.StringIO()):
                path = make(work / f"{label.replace(' ', '_')}.onnx")
            session(path)
            found[label] = path
        except Exception as error:  # a peer may fail in any way
            print(f"  {net.name}: {label}: {type(error).__name__}: {str(error)[:100]}", file=sys.stderr)
    return found


def session(path: Path) -> ort.InferenceSession:
    """A session as a deployer makes it, on one thread."""
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def metric(net: Network, path: Path) -> float | None:
    """The metric of a model file."""
    if net.evaluate is None:
        return None
    run = session(path)
    return round(float(net.evaluate(lambda feed: run.run(None, feed))), 4)


def bench(name: str, threads: Sequence[int], seconds: float) -> dict[str, Any]:
    """Everything about one network."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        net = network(name, work)
        report = ours(net, work)
        plain = SessionConfig()
        models = {"float": (net.path, plain), "ours": (work / "ours" / "model.onnx", plain)}
        config = config_at(work / "ours", ir.load(work / "ours" / "model.onnx"), 1)
        if config != plain:
            models["ours, session"] = (work / "ours" / "model.onnx", config)
        models |= {label: (path, plain) for label, path in theirs(net, work).items()}
        results: dict[str, Any] = {
            label: {"metric": metric(net, path), "threads": {}}
            for label, (path, _) in models.items()
            if label != "ours, session"
        }
        for count in threads:
            for label, figures in latencies(models, [net.bench], count, seconds).items():
                results.setdefault(label, {"metric": None, "threads": {}})["threads"][str(count)] = figures
    return {
        "model": name, "metric": net.metric, "higher_is_better": net.higher_is_better,
        "shipped": report["target"]["shipped"], "exit": report["exit"], "compile_seconds": report["compile_seconds"],
        "session": list(config.disabled_optimizers), "findings": report["backend"].get("findings", []),
        "results": results, "ort": best_peer(results, str(threads[0]), net.higher_is_better),
    }  # fmt: skip


def best_peer(results: dict[str, Any], threads: str, higher_is_better: bool) -> str:
    """The label of the peer to compare with, "" if there is none."""
    wanted, sign = results["float"]["metric"], 1 if higher_is_better else -1
    labels = [label for label in results if label.startswith("ort ")]

    def speed(label: str) -> float:
        return float(results[label]["threads"][threads]["speedup"])

    if wanted is None:
        return max(labels, key=speed, default="")
    loss = {label: sign * (wanted - results[label]["metric"]) / abs(wanted) for label in labels}
    holding = [label for label in labels if loss[label] <= TOLERANCE]
    return max(holding, key=speed) if holding else min(labels, key=loss.__getitem__, default="")


def table(row: dict[str, Any]) -> list[str]:
    """The lines of one network: a line for float, ours and the best peer, columns for each number of threads."""
    lines = []
    for label in ("float", "ours", "ours, session", row["ort"]):
        if label not in row["results"]:
            continue
        result = row["results"][label]
        value = "" if result["metric"] is None else f"{result['metric']:.4f}"
        cells = [f"{row['model'] if label == 'float' else '':20}", f"{label:15}", f"{value:>8}"]
        for figures in result["threads"].values():
            times = f"{figures['min_ms']:9.3f} {figures['median_ms']:9.3f} {100 * figures['spread']:5.1f}%"
            cells.append(f"{times} {figures['speedup']:6.2f} +-{figures['noise']:4.2f}")
        lines.append(" ".join(cells).rstrip())
    return lines


def machine(threads: Sequence[int]) -> dict[str, Any]:
    """What the figures depend on."""
    with pinned(threads[0]) as said:
        where = said
    return {
        "onnxruntime": ort.__version__, "python": platform.python_version(), "cpu": list(cpu_flags()),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        f"threads {threads[0]}": where, "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else 0.0,
    }  # fmt: skip


def main() -> None:
    """Prints the table, writes JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="networks; those of the onnx package as onnx/NAME; all by default")
    parser.add_argument("--threads", default="1,2", help="numbers of threads (default: 1,2)")
    parser.add_argument("--seconds", type=float, default=1.0, help="for each model and number of threads")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    threads = [int(count) for count in arguments.threads.split(",")]
    about = machine(threads)
    print(", ".join(f"{key} {value}" for key, value in about.items() if key != "cpu"))
    if about["load"] > BUSY:
        print("other processes are running: trust minima more than medians", file=sys.stderr)
    heads = "".join(f" {f'{n}T min':>9} {'median':>9} spread {'x':>6} {'noise':>6}" for n in threads)
    print(f"{'model':20} {'ms':15} {'metric':>8}{heads}")
    rows, start = [], time.perf_counter()
    for name in arguments.names or names():
        try:
            row = bench(name, threads, arguments.seconds)
        except (RuntimeError, KeyError) as error:
            print(f"{name:20} failed: {error}", flush=True)
            rows.append({"model": name, "error": str(error)})
            continue
        rows.append(row)
        print("\n".join(table(row)), flush=True)
        if arguments.json:  # after each, so that an interrupted run leaves what it has
            arguments.json.parent.mkdir(parents=True, exist_ok=True)
            arguments.json.write_text(json.dumps({"machine": about, "rows": rows}, indent=1) + "\n", encoding="utf-8")
    print(f"{len(rows)} networks in {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
