"""A saved package beside ONNX Runtime on the same graph, value by value.

ONNX Runtime runs the graph with Q and DQ that the package was made from, unoptimised; the evaluator runs what was read
back from disk. Values that both have under one name are compared; what coremltools fused away is left out, and what a
mask closes is equal however negative it is. The first value in the order of computation that is under the floor is
where both part.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompiler import ir
from qcompiler.analysis import SessionConfig
from qcompiler.analysis.compare import Comparison, TensorComparison
from qcompiler.analysis.observe import order
from qcompiler.analysis.run import is_float
from qcompiler.analysis.tap import Complete, Shed, Tap
from qcompiler.backends.coreml.evaluate import Package
from qcompiler.backends.coreml.lower.scope import MASK
from qcompiler.backends.coreml.names import IMAGE
from qcompiler.backends.coreml.overflow import masks
from qcompiler.data import Sample
from qcompiler.errors import DataError

NAMES = "names.json"
HALF = "_cast_fp16"
OFF = SessionConfig("off")
CLOSE = 0.01
"""Of a pixel: what rounding leaves of a whole number on its way through scale and bias."""

Progress = Callable[[int, "int | None"], None]


@dataclass(frozen=True)
class Verified:
    """What the comparison of a package says.

    Attributes:
        samples: how many inputs.
        outputs: by name: SQNR in dB, relative error (L2), largest difference.
        compared: how many values both have.
        first: the first value under the floor; None where there is none.
        floor_db: the floor.
    """

    samples: int
    outputs: Mapping[str, tuple[float, float, float]]
    compared: int
    first: TensorComparison | None
    floor_db: float

    @property
    def worst_db(self) -> float:
        """The lowest SQNR of an output."""
        return min((db for db, _, _ in self.outputs.values()), default=math.inf)

    def facts(self) -> dict[str, Any]:
        """As plain values."""
        part = self.first
        return {
            "samples": self.samples,
            "values_compared": self.compared,
            "outputs": {
                name: {"sqnr_db": finite(db), "relative_error": finite(rel), "largest_difference": finite(most)}
                for name, (db, rel, most) in self.outputs.items()
            },
            "first_divergence": None
            if part is None
            else {"tensor": part.tensor, "node": part.node, "op": part.op, "sqnr_db": finite(part.sqnr_db)},
            "floor_db": self.floor_db,
        }


def finite(value: float) -> float | None:
    """A number as JSON has it: None for infinite ones and NaN."""
    return float(f"{value:.4g}") if math.isfinite(value) else None


def write_names(path: Path, names: Mapping[str, str]) -> None:
    """The map from names of the package to those in ONNX, of every value."""
    found = {clean: original for original, clean in names.items()}
    path.write_text(json.dumps(dict(sorted(found.items())), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read_names(path: Path) -> dict[str, str]:
    """Inverse of `write_names`; empty where there is no such file.

    Raises:
        DataError: the file holds something else.
    """
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"is not JSON: {error}", where=str(path)) from error
    return {str(key): str(value) for key, value in found.items()}


def pixels(package: Package, feed: Mapping[str, Any]) -> dict[str, npt.NDArray[Any]]:
    """A feed of the ONNX model as the package takes it: x = pixel * scale + bias, solved for the pixels of images.

    What is close to a whole number is one: pixels are, and float16 holds those exactly.
    """
    user, found = package.spec.description.metadata.userDefined, dict(feed)
    for key in [key for key in user if key.startswith(IMAGE)]:
        name = package.original(key[len(IMAGE) :])
        scale, bias = json.loads(user[key])
        exact = (np.asarray(feed[name], np.float64) - np.reshape(bias, (1, -1, 1, 1))) / scale
        whole = np.rint(exact)
        found[name] = np.where(np.abs(exact - whole) < CLOSE, whole, exact).astype(np.float32)
    return found


def observed(package: Package, feed: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, npt.NDArray[Any]]:
    """The float values of one run by their names in ONNX; outputs under theirs."""
    found: dict[str, npt.NDArray[Any]] = {}
    inputs = set(package.inputs)
    for name, value in package.values(pixels(package, feed)):
        if name in inputs:
            continue
        clean = name.removesuffix(HALF)
        original = names.get(clean) or names.get(name)
        if original is not None and value.dtype.kind == "f":
            found[original] = value
        elif name in package.output_names or package.original(name) in package.output_names:
            found[package.original(name)] = value
    return found


def compared(
    reference: ir.Model,
    package: Package,
    names: Mapping[str, str],
    source: Iterable[Sample],
    *,
    samples: int,
    memory_budget: int = 256 << 20,
    progress: Progress | None = None,
) -> Comparison:
    """Every float value that both have.

    Args:
        reference: the graph that the package was made from, or the float model.
        package: read back.
        names: name in ONNX by name in the package.
        source: samples.
        samples: how many.
        memory_budget: bytes for values of the reference.
        progress: called after every sample.

    Raises:
        DataError: there are no samples, or one does not fit.
        ModelError: the package or the graph cannot be run.
    """
    producer = {tensor.name: node for node in reference.nodes for tensor in node.outputs if tensor.name}
    closing = masks(reference)
    known = set(names.values()) | set(package.output_names)
    wanted = [name for name in producer if name in known]
    head = list(itertools.islice(source, samples))
    tap = Tap(reference, head, wanted, memory_budget, config=OFF)
    found: dict[str, TensorComparison] = {}
    cache: dict[int, dict[str, npt.NDArray[Any]]] = {}
    skipped: dict[str, str] = {}
    done = 0
    for event in tap:
        if isinstance(event, Shed):
            for name in event.names:
                found.pop(name, None)
        elif isinstance(event, Complete):
            done = event.samples
        else:
            if event.index not in cache:
                cache = {event.index: observed(package, event.sample.feed, names)}
            got = cache[event.index]
            for name, value in event.values.items():
                other = got.get(name)
                if other is None or not is_float(value):
                    skipped[name] = "the package has no such float value: it was fused, or holds integers"
                elif other.shape != value.shape:
                    skipped[name] = f"its shape is {list(value.shape)}, and {list(other.shape)} in the package"
                else:
                    node = producer[name]
                    so_far = found.get(name) or TensorComparison(name, name, str(node.name), str(node.op))
                    if name in closing:
                        value, other = np.maximum(value, MASK), np.maximum(other, MASK)
                    found[name] = so_far.update(value, other)
            if progress is not None:
                progress(event.index + 1, len(head))
    position = order(reference)
    ranked = sorted(found.values(), key=lambda item: position[item.tensor])
    skipped |= dict(tap.refused)
    return Comparison(tuple(ranked), {k: v for k, v in sorted(skipped.items()) if k not in found}, done)


def verified(
    reference: ir.Model, package: Package, names: Mapping[str, str], source: Iterable[Sample], *, samples: int,
    floor_db: float,
) -> Verified:  # fmt: skip
    """The comparison in short; errors as `compared`."""
    found = compared(reference, package, names, source, samples=samples)
    ends = {tensor.name for tensor in reference.outputs}
    outputs = {}
    for line in found.tensors:
        if line.tensor in ends:
            relative = math.sqrt(line.meter.noise / line.meter.signal) if line.meter.signal else line.worst
            outputs[line.tensor] = (line.sqnr_db, relative, line.worst)
    return Verified(found.samples, outputs, len(found.tensors), found.first_below(floor_db), floor_db)


def made_up(model: ir.Model, shapes: Mapping[str, tuple[int, ...]]) -> Sample:
    """An input to verify on where there is no data: normal numbers, zeros for integers. Says nothing of accuracy."""
    rng = np.random.default_rng(0)
    feed: dict[str, npt.NDArray[Any]] = {}
    for tensor in model.inputs:
        dtype = np.dtype(np.float32 if tensor.dtype is None else tensor.dtype)
        shape = shapes[tensor.name]
        values = rng.standard_normal(shape) if dtype.kind == "f" else np.zeros(shape)
        feed[tensor.name] = values.astype(dtype)
    return Sample(feed, None, "made up")
