"""The model zoo through Core ML: bytes of the package, error against ONNX Runtime on the same graph, the zoo's metric.

    python -m benchmarks.coreml_zoo [--models kws_dscnn,...] [--precisions fp16,w8] [--metric 200] [--json FILE]

`error` is the relative error (L2) of the worst output, of the saved package in the evaluator beside ONNX Runtime, not
optimising, on the same graph with Q and DQ: what lowering, float16 and the package add. `metric` is the zoo's, of the
package in the evaluator, beside the float model on the same samples: of top-1 the first (`--metric`), else all. No
limit is set: a precision is taken as it is, unless that ruins the model.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from benchmarks import zoo_data
from qcompiler import ir
from qcompiler.backends.coreml.evaluate import Package
from qcompiler.backends.coreml.package import size
from qcompiler.compiler import compile
from qcompiler.errors import QCompilerError
from qcompiler.recipe import Recipe

WEIGHTS = ("fp32", "fp16", "w8")
CONVOLUTIONAL = (*WEIGHTS, "w8a8", "w4-palette")
LANGUAGE = (*WEIGHTS, "w4-palette", "w4-block")
TOKENS = "1x1:1x32:1x128"
PLAN: dict[str, tuple[dict[str, str], tuple[str, ...]]] = {
    "kws_dscnn": ({"N": "1"}, CONVOLUTIONAL),
    "resnet20_cifar10": ({"N": "1"}, CONVOLUTIONAL),
    "mobilenetv3_small": ({"N": "1"}, CONVOLUTIONAL),
    "squeezenet10": ({"N": "1"}, CONVOLUTIONAL),
    "yunet_320": ({}, CONVOLUTIONAL),
    "ppocrv3_det": ({"x": "1x3x320x320"}, CONVOLUTIONAL),
    "vit_cifar10": ({"N": "1"}, WEIGHTS),
    "stories260k": ({"N": "1", "input_ids": "1x1:1x32:1x256"}, LANGUAGE),
    "minilm_l6": ({"N": "1", "input_ids": TOKENS, "attention_mask": TOKENS}, LANGUAGE),
    "silero_vad": ({"batch": "1", "sequence": "576"}, WEIGHTS),
}
CALIBRATION = 32


class Few:
    """A zoo model's evaluation: top-1 on the first samples, any other metric on all of them."""

    def __init__(self, entry: Any, count: int) -> None:
        self.entry, self.count = entry, count

    def score(self, run: Callable[[dict[str, np.ndarray]], list[np.ndarray]]) -> float:
        """The metric of a model that is run so."""
        if self.entry.metric != "top-1":
            return float(self.entry.evaluate(run))
        hits = [
            int(np.argmax(run(feed)[0].reshape(-1)[-1000:])) == label
            for feed, label in itertools.islice(self.entry.samples(), self.count)
        ]
        return float(np.mean(hits))


def runs(package: Package, outputs: Sequence[str]) -> Callable[[dict[str, np.ndarray]], list[np.ndarray]]:
    """A package as the zoo runs models: results in the order of the graph, which packages do not keep."""

    def run(feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        found = package.run(feed)
        return [found[name] for name in outputs]

    return run


def original(path: Path) -> Callable[[dict[str, np.ndarray]], list[np.ndarray]]:
    """The float model as the zoo runs it."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda feed: session.run(None, feed)  # type: ignore[no-any-return]


def measured(name: str, precisions: tuple[str, ...], metric: int, work: Path) -> Iterator[dict[str, Any]]:
    """One line for each precision."""
    entry = zoo_data.load().MODELS[name]
    shapes, planned = PLAN[name]
    feeds = zoo_data.feeds(entry, CALIBRATION)
    data = zoo_data.calibration_folder(feeds, work / f"{name}-data")
    judge = Few(entry, metric)
    before = judge.score(original(entry.path)) if metric else None
    outputs = [tensor.name for tensor in ir.load(entry.path).outputs]
    for precision in planned:
        if precisions and precision not in precisions:
            continue
        target = "coreml:ios18-gpu" if precision == "w4-block" else "coreml:ios18-ane"
        line: dict[str, Any] = {"model": name, "precision": precision}
        start = perf_counter()
        try:
            recipe = Recipe(precision=precision, shapes=shapes, bench_seconds=0, method="minmax", max_drop=None)
            result = compile(entry.path, target, data, output=work / f"{name}-{precision}", recipe=recipe)
        except QCompilerError as error:
            yield {**line, "refused": str(error)[:160]}
            continue
        evaluated: Any = result.report.backend["evaluated"]
        worst = max((out["relative_error"] or 0.0 for out in evaluated["outputs"].values()), default=None)
        path = work / f"{name}-{precision}" / f"{entry.path.stem}.mlpackage"
        score = judge.score(runs(Package.load(path), outputs)) if metric else None
        yield {
            **line, "status": result.exit_status, "shipped": str(result.report.target["shipped"]),
            "bytes": size(path), "error": worst, "float_bytes": entry.path.stat().st_size,
            "float_metric": before, "metric": score, "seconds": round(perf_counter() - start, 1),
        }  # fmt: skip


def main() -> None:
    """Prints a line for each package."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default=",".join(PLAN))
    parser.add_argument("--precisions", default="")
    parser.add_argument("--metric", type=int, default=0, metavar="N")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        for name in given.models.split(","):
            wanted = tuple(filter(None, given.precisions.split(",")))
            for line in measured(name, wanted, given.metric, Path(folder)):
                print(json.dumps(line), flush=True)
                lines.append(line)
    if given.json:
        given.json.write_text(json.dumps(lines, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
