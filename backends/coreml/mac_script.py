"""Runs a package on a Mac: what the compile on another machine could not show.

    python3 check_on_mac.py PACKAGE.mlpackage [inputs.npz] [--unit ALL|CPU_ONLY|CPU_AND_GPU|CPU_AND_NE]

Compares `predict` on a unit with the CPU, prints which unit each operation prefers (MLComputePlan), and times 20 runs.
Needs macOS and `pip install coremltools numpy`. inputs.npz holds arrays by input name; without it inputs are made up.
"""

from __future__ import annotations

import argparse
import collections
import time
from typing import Any

import coremltools as ct
import numpy as np


def made_up(model: ct.models.MLModel) -> dict[str, Any]:
    """Inputs of the default shapes."""
    rng, feed = np.random.default_rng(0), dict[str, Any]()
    for entry in model.get_spec().description.input:
        if entry.type.WhichOneof("Type") == "imageType":
            from PIL import Image

            kind = entry.type.imageType
            mode = "L" if kind.colorSpace == 10 else "RGB"
            feed[entry.name] = Image.new(mode, (kind.width, kind.height), 128)
            continue
        kind = entry.type.multiArrayType
        values = rng.standard_normal(tuple(kind.shape))
        feed[entry.name] = (values * 0).astype(np.int32) if kind.dataType == 131104 else values.astype(np.float32)
    return feed


def compare(path: str, unit: str, feed: dict[str, Any]) -> None:
    """The unit beside the CPU."""
    results, seconds = {}, {}
    for name in ("CPU_ONLY", unit):
        model = ct.models.MLModel(path, compute_units=getattr(ct.ComputeUnit, name))
        kept = {"state": model.make_state()} if len(model.get_spec().description.state) else {}
        results[name] = model.predict(feed, **kept)
        start = time.perf_counter()
        for _ in range(20):
            model.predict(feed, **kept)
        seconds[name] = (time.perf_counter() - start) / 20
    for name, value in seconds.items():
        print(f"{name}: {1000 * value:.2f} ms")
    for key, wanted in results["CPU_ONLY"].items():
        if isinstance(wanted, np.ndarray):
            got = results[unit][key]
            noise = float(np.square(wanted - got).sum())
            signal = float(np.square(wanted).sum())
            ratio = float("inf") if noise == 0 else 10 * np.log10(signal / noise)
            print(f"{key}: {unit} differs from the CPU by {np.abs(wanted - got).max():.3g}, SQNR {ratio:.1f} dB")


def plan(path: str, unit: str) -> None:
    """Where each operation would run."""
    from coremltools.models.compute_plan import MLComputePlan

    compiled = ct.utils.compile_model(path)
    found = MLComputePlan.load_from_path(str(compiled), compute_units=getattr(ct.ComputeUnit, unit))
    counts: collections.Counter[tuple[str, str]] = collections.Counter()
    for operation in found.model_structure.program.functions["main"].block.operations:
        usage = found.get_compute_device_usage_for_mlprogram_operation(operation)
        if usage is not None:
            counts[type(usage.preferred_compute_device).__name__, operation.operator_name] += 1
    for (device, operator), count in sorted(counts.items()):
        print(f"{device}: {count} x {operator}")


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("package")
    parser.add_argument("inputs", nargs="?")
    parser.add_argument("--unit", default="ALL", choices=["ALL", "CPU_ONLY", "CPU_AND_GPU", "CPU_AND_NE"])
    given = parser.parse_args()
    if given.inputs:
        with np.load(given.inputs) as archive:
            feed = dict(archive)
    else:
        feed = made_up(ct.models.MLModel(given.package, compute_units=ct.ComputeUnit.CPU_ONLY))
    compare(given.package, given.unit, feed)
    plan(given.package, given.unit)


if __name__ == "__main__":
    main()
