"""What calibration costs: memory by number of samples, time beside plain inference, and whether halves merge.

    python -m benchmarks.calibration [NAME ...]

Each measurement runs in a process of its own. Time is that of `collect` (all tensors that int8 needs) over that of the
float model alone on the same samples, both on one thread of ONNX Runtime; range methods read the same statistics, so
they are timed together.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks import zoo_data
from qcompiler import backends
from qcompiler.analysis import HISTOGRAM, Runner, collect
from qcompiler.data import open_source
from qcompiler.frontend import front
from qcompiler.numerics import METHODS
from qcompiler.report.assemble import peak_rss_mib
from qcompiler.search.candidates import Drafter


def repeated(name: str, count: int) -> Iterator[dict[str, np.ndarray]]:
    """`count` feeds: the calibration feeds of a zoo model, again and again."""
    entry = zoo_data.load().MODELS[name]
    done = 0
    while done < count:
        for feed in entry.calibration():
            if done == count:
                return
            done += 1
            yield dict(feed)


def one(name: str, count: int) -> dict[str, float]:
    """Peak memory and times of one calibration, in this process."""
    frontend = front(zoo_data.load().MODELS[name].path)
    backend = backends.get("onnxruntime")
    wanted = Drafter(frontend.prepared, backend).draft("int8").wanted
    source = open_source(lambda: repeated(name, count), frontend.inputs)
    runner = Runner(frontend.original)
    plain = 0.0
    for feed in repeated(name, count):
        start = time.perf_counter()
        runner.run(feed)
        plain += time.perf_counter() - start
    produce = time.perf_counter()
    for _ in source:
        pass
    produce = time.perf_counter() - produce
    start = time.perf_counter()
    stats = collect(frontend.prepared, source, dict.fromkeys(wanted, (HISTOGRAM,)))
    seconds = time.perf_counter() - start - produce
    start = time.perf_counter()
    for tensor in stats:
        for method in METHODS.values():
            method(stats.histogram(tensor), qmin=0, qmax=255, symmetric=False)
    return {
        "peak": peak_rss_mib(),
        "plain": plain,
        "collect": seconds,
        "ranges": time.perf_counter() - start,
        "tensors": len(stats),
    }


def halves(name: str, count: int) -> bool:
    """Whether two halves, merged in either order, give the file of the whole."""
    frontend = front(zoo_data.load().MODELS[name].path)
    backend = backends.get("onnxruntime")
    wanted = dict.fromkeys(Drafter(frontend.prepared, backend).draft("int8").wanted, (HISTOGRAM,))
    feeds = list(repeated(name, count))
    parts = [feeds, feeds[: count // 2], feeds[count // 2 :]]
    whole, first, second = (collect(frontend.prepared, open_source(p, frontend.inputs), wanted) for p in parts)
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for number, stats in enumerate((whole, first.merge(second), second.merge(first))):
            stats.save(Path(folder) / f"{number}.npz")
            files.append((Path(folder) / f"{number}.npz").read_bytes())
    return len(set(files)) == 1


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=["mobilenetv3_small", "squeezenet10", "minilm_l6"])
    parser.add_argument("--one", nargs=2, metavar=("NAME", "COUNT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(one(arguments.one[0], int(arguments.one[1]))))
        return
    heads = ("tensors", "MiB at 32", "MiB at 256", "ratio", "time", "ranges s")
    print(f"{'model':18} " + " ".join(f"{head:>10}" for head in heads) + "  halves")
    for name in arguments.names:
        rows = {}
        for count in (32, 256):
            command = [sys.executable, "-m", "benchmarks.calibration", "--one", name, str(count)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            rows[count] = json.loads(done.stdout)
        small, large = rows[32], rows[256]
        print(
            f"{name:18} {large['tensors']:10.0f} {small['peak']:10.0f} {large['peak']:10.0f} "
            f"{large['peak'] / small['peak']:10.3f} {large['collect'] / large['plain']:10.2f} {large['ranges']:10.2f}  "
            f"{'equal' if halves(name, 32) else 'DIFFERENT'}",
            flush=True,
        )


if __name__ == "__main__":
    main()
