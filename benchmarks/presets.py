"""What the presets cost beside calibration: CPU seconds of each on the zoo's models.

    python -m benchmarks.presets [NAME ...] [--precision int8]

    calibration      statistics of every tensor that the plan needs, over all calibration samples
    fast             a candidate made from them
    balanced, best   more than that: algorithms tried on samples, what each costs and whether it is kept
    ratio            (balanced - fast) / calibration

For onnxruntime, without search and without timing. CPU seconds are of this process with all its threads, so that other
work on the machine changes little.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from benchmarks import zoo_data
from qcompiler import backends
from qcompiler.analysis import collect
from qcompiler.analysis.same_function import SameFunction
from qcompiler.data import open_source
from qcompiler.frontend import front
from qcompiler.search.algorithms import PRESETS
from qcompiler.search.candidates import Drafter
from qcompiler.search.improve import Improver

TRIED = ("balanced", "best")


def bench(name: str, precision: str, work: Path) -> None:
    """Prints the row of one model."""
    entry = zoo_data.load().MODELS[name]
    frontend = front(entry.path)
    source = open_source(str(zoo_data.calibration_folder(zoo_data.feeds(entry), work / name)), frontend.inputs)
    probe = dict(next(iter(source)).feed)
    seconds: dict[str, float] = {}
    kept: dict[str, str] = {}
    for preset in ("fast", *TRIED):
        drafter = Drafter(
            frontend.prepared, backends.get("onnxruntime"), algorithms=PRESETS[preset], same=SameFunction(probe)
        )
        draft = drafter.draft(precision)  # type: ignore[arg-type]
        start = time.process_time()
        stats = collect(frontend.prepared, source, drafter.statistics(draft))
        seconds.setdefault("calibration", time.process_time() - start)
        start = time.process_time()
        made = replace(drafter, algorithms=drafter.algorithms.sure).candidate(draft, stats, "auto", {})
        made = Improver(frontend.original, source).improved(drafter, draft, made, stats, {})
        seconds[preset] = time.process_time() - start
        kept[preset] = ", ".join(note.split(":")[0] for note in made.trace.notes if ": kept: " in note)
    ratio = (seconds["balanced"] - seconds["fast"]) / seconds["calibration"]
    figures = " ".join(f"{seconds[key]:10.2f}" for key in ("calibration", "fast", *TRIED))
    said = "; ".join(f"{preset}: {kept[preset]}" for preset in TRIED if kept[preset])
    print(f"{name:20} {figures} {ratio:7.2f}  {said}", flush=True)


def main() -> None:
    """Prints a row for each model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="zoo models; all")
    parser.add_argument("--precision", default="int8")
    arguments = parser.parse_args()
    print(f"{'':20} {'calibr.':>10} {'fast':>10} {'balanced':>10} {'best':>10} {'ratio':>7}  kept")
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.names or list(zoo_data.load().MODELS):
            bench(name, arguments.precision, Path(folder))


if __name__ == "__main__":
    main()
