"""Saved packages in float32 beside ONNX Runtime, not optimising: the float model, and the codes of the int8 one.

    python -m benchmarks.coreml_exact [--models kws_dscnn,...] [--samples 2] [--float]

`float` is the relative error (L2) of the worst output, `largest` its largest error relative to its largest value.
Two computations in float32 differ by what both round: `ours` and `theirs` are the largest errors of the package and of
ONNX Runtime beside the same package computed in float64, whose own rounding is 1e-9 of theirs. `holds` says that the
package is within 1e-5 of that, or no farther from it than ONNX Runtime is. `--float` leaves the int8 model out:
`codes` counts the int8 values of the w8a8 graph; `differ` those that the package computes otherwise from the same int8
values before them, `steps` by how much at most: sums added in another order may take a value over the edge between two
codes. `carried` counts those that differ where nothing is corrected, and every layer reads what the package computed.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import zoo_data
from benchmarks.coreml_zoo import CALIBRATION, PLAN
from qcompiler import ir
from qcompiler.analysis import SessionConfig
from qcompiler.analysis.run import Runner
from qcompiler.analysis.tap import Seen, Tap
from qcompiler.backends.coreml.convert import Settings, convert
from qcompiler.backends.coreml.evaluate import Package
from qcompiler.backends.coreml.interface import interface
from qcompiler.backends.coreml.package import save
from qcompiler.compiler import compile
from qcompiler.data import Sample
from qcompiler.recipe import Recipe

OFF = SessionConfig("off")
NEAR = 1e-5
Feed = Mapping[str, Any]


@dataclass
class Codes:
    """int8 values that both have; see the module."""

    values: int = 0
    differ: int = 0
    steps: int = 0
    carried: int = 0


def packaged(model: ir.Model, folder: Path, ranges: Mapping[str, str]) -> tuple[Package, dict[str, str]]:
    """The float32 package of a graph, read back, and the names in ONNX of its values."""
    made = convert(model, Settings(half=False), interface(model, ranges=ranges))
    save(made.model, folder / "exact.mlpackage")
    return Package.load(folder / "exact.mlpackage"), {clean: name for name, clean in made.names.items()}


@dataclass
class Apart:
    """The worst output beside another computation, relative: L2, and the largest difference to the largest value."""

    square: float = 0.0
    largest: float = 0.0

    def note(self, wanted: Any, got: Any) -> None:
        """Enters an output."""
        apart, size = np.abs(np.float64(1) * wanted - got), np.abs(wanted)
        self.square = max(self.square, float(np.linalg.norm(apart)) / max(float(np.linalg.norm(size)), 1e-6))
        self.largest = max(self.largest, float(apart.max(initial=0.0)) / max(float(size.max(initial=0.0)), 1e-6))


def relative(model: ir.Model, package: Package, feeds: Sequence[Feed]) -> tuple[Apart, Apart, Apart]:
    """The package beside ONNX Runtime, and both beside the package computed in float64."""
    run, wide = Runner(model, OFF), Package.load(package.path)
    wide.wide = True
    both, ours, theirs = Apart(), Apart(), Apart()
    for feed in feeds:
        got, exact = package.run(feed), wide.run(feed)
        for name, value in run.run(feed).items():
            both.note(value, got[name])
            ours.note(exact[name], got[name])
            theirs.note(exact[name], value)
    return both, ours, theirs


def codes(model: ir.Model, package: Package, names: Mapping[str, str], feeds: Sequence[Feed]) -> Codes:
    """Every value that QuantizeLinear makes in the graph, beside the package."""
    wanted = [node.outputs[0].name for node in model.nodes if node.op == "QuantizeLinear"]
    clean = {original: name for name, original in names.items()}
    found, samples = Codes(), [Sample(dict(feed), None, "") for feed in feeds]
    for event in Tap(model, samples, wanted, 1 << 30, config=OFF):
        if not isinstance(event, Seen):
            continue
        true = {clean[name]: value for name, value in event.values.items() if name in clean}
        for corrected in (True, False):
            for name, value in package.values(event.sample.feed, true if corrected else None):
                if name in true:
                    apart = np.abs(true[name].astype(np.int32) - value)
                    if corrected:
                        found.values += apart.size
                        found.differ += int(np.count_nonzero(apart))
                        found.steps = max(found.steps, int(apart.max(initial=0)))
                    else:
                        found.carried += int(np.count_nonzero(apart))
    return found


def measured(name: str, samples: int, work: Path, *, only_float: bool = False) -> dict[str, Any]:
    """The line of a zoo model."""
    entry = zoo_data.load().MODELS[name]
    shapes, planned = PLAN[name]
    ranges = {key: value for key, value in shapes.items() if ":" in value}
    feeds = zoo_data.feeds(entry, CALIBRATION)
    data = zoo_data.calibration_folder(feeds, work / f"{name}-data")
    line: dict[str, Any] = {"model": name}
    for precision in ("float", *(() if only_float or "w8a8" not in planned else ("w8a8",))):
        recipe = Recipe(precision=precision, shapes=shapes, bench_seconds=0, method="minmax")
        model = compile(entry.path, "coreml", data, recipe=recipe).model
        package, names = packaged(model, work, ranges)
        if precision == "float":
            both, ours, theirs = relative(model, package, feeds[:samples])
            sizes = {"float": both.square, "largest": both.largest, "ours": ours.largest, "theirs": theirs.largest}
            line |= {key: float(f"{value:.2g}") for key, value in sizes.items()}
            line["holds"] = ours.largest <= max(NEAR, theirs.largest)
        else:
            found = codes(model, package, names, feeds[:samples])
            line |= {"codes": found.values, "differ": found.differ, "steps": found.steps,
                     "carried": found.carried}  # fmt: skip
    return line


def main() -> None:
    """Prints a line for each model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default=",".join(PLAN))
    parser.add_argument("--samples", type=int, default=2)
    parser.add_argument("--float", action="store_true", help="only the float model")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name in given.models.split(","):
            print(json.dumps(measured(name, given.samples, Path(folder), only_float=given.float)), flush=True)


if __name__ == "__main__":
    main()
