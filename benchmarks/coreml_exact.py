"""Saved packages in float32 beside ONNX Runtime, not optimising: the float model, and the codes of the int8 one.

    python -m benchmarks.coreml_exact [--models kws_dscnn,...] [--samples 2]

`float` is the relative error (L2) of the worst output, `largest` its largest error relative to its largest value.
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


def relative(model: ir.Model, package: Package, feeds: Sequence[Feed]) -> tuple[float, float]:
    """Errors of the worst output beside ONNX Runtime, relative: L2, and the largest to the largest value."""
    run, square, worst = Runner(model, OFF), 0.0, 0.0
    for feed in feeds:
        got = package.run(feed)
        for name, value in run.run(feed).items():
            wanted = value.astype(np.float64)
            apart, size = np.abs(wanted - got[name]), np.abs(wanted)
            square = max(square, float(np.linalg.norm(apart)) / max(float(np.linalg.norm(size)), 1e-6))
            worst = max(worst, float(apart.max(initial=0.0)) / max(float(size.max(initial=0.0)), 1e-6))
    return square, worst


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


def measured(name: str, samples: int, work: Path) -> dict[str, Any]:
    """The line of a zoo model."""
    entry = zoo_data.load().MODELS[name]
    shapes, planned = PLAN[name]
    ranges = {key: value for key, value in shapes.items() if ":" in value}
    feeds = zoo_data.feeds(entry, CALIBRATION)
    data = zoo_data.calibration_folder(feeds, work / f"{name}-data")
    line: dict[str, Any] = {"model": name}
    for precision in ("float", "w8a8"):
        if precision == "w8a8" and precision not in planned:
            continue
        recipe = Recipe(precision=precision, shapes=shapes, bench_seconds=0, method="minmax")
        model = compile(entry.path, "coreml", data, recipe=recipe).model
        package, names = packaged(model, work, ranges)
        if precision == "float":
            square, largest = relative(model, package, feeds[:samples])
            line |= {"float": float(f"{square:.2g}"), "largest": float(f"{largest:.2g}")}
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
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name in given.models.split(","):
            print(json.dumps(measured(name, given.samples, Path(folder))), flush=True)


if __name__ == "__main__":
    main()
