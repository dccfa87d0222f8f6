"""What a cache in bytes costs on Hexagon, step by step: perplexity, KL, bytes, in ONNX Runtime and in the emulator.

    python -m benchmarks.qnn_cache MODEL CALIBRATION.npz EVALUATION.npz [--precisions w8a8,w8a16] [--kinds ,int8]
                                   [--length 16] [--steps 3] [--samples 16] [--rows 32] [--emulate 2] [--soc sm8650]

The processor takes fixed shapes, so a step of `--length` tokens is compiled behind one, two, ... times as many others,
which share a binary. The float model reads the first `--length` tokens of a row; each step then reads the cache that
the one before gave, as it gave it. Its scores are compared with those of the float model on the whole row. The QDQ
models run on `--rows` rows in ONNX Runtime, on `--emulate` of them in the emulator. The first kind is a float cache.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qcompiler import Recipe, compile, ir
from qcompiler.analysis import Runner
from qcompiler.backends.qnn.cache import Border
from qcompiler.backends.qnn.emulate import REFERENCE, emulated
from qcompiler.backends.qnn.socs import parse
from qcompiler.passes.lower.cache import token_bytes
from qcompiler.recipe import ALSO

Feed = dict[str, Any]
Engine = Callable[[Path, Sequence[Feed]], Sequence[Any]]
PAST, PRESENT = "past_key_values", "present"


def given_back(results: Feed) -> Feed:
    """The cache of the next step."""
    return {name.replace(PRESENT, PAST, 1): values for name, values in results.items() if name.startswith(PRESENT)}


def row(file: Path, number: int) -> tuple[Feed, Any]:
    """The tokens of one row, with an empty cache, and what follows each of them."""
    with np.load(file) as arrays:
        feed = {name: arrays[name][number : number + 1] for name in arrays.files if name != "labels"}
        return feed, arrays["labels"][number]


def behind(real: Runner, feed: Feed, past: int, length: int) -> Feed:
    """A step behind `past` tokens that the float model has read."""
    start = real.run({**feed, "input_ids": feed["input_ids"][:, :past]})
    return {**given_back(start), "input_ids": feed["input_ids"][:, past : past + length]}


def onnxruntime(file: Path, feeds: Sequence[Feed]) -> Sequence[Any]:
    """Node by node."""
    runner = Runner(ir.load(file), REFERENCE)
    return [runner.run(feed) for feed in feeds]


def emulator(soc: str) -> Engine:
    """Qualcomm's, for a chip."""

    def run(file: Path, feeds: Sequence[Feed]) -> Sequence[Any]:
        with tempfile.TemporaryDirectory() as work:
            got, _, error = emulated(file, feeds, parse(soc)[0], Path(work) / "run", lambda *_: None)
        if error:
            raise SystemExit(error)
        return got

    return run


def log_softmax(scores: Any) -> Any:
    """Logarithms of probabilities along the last axis."""
    moved = scores - scores.max(-1, keepdims=True)
    return moved - np.log(np.exp(moved).sum(-1, keepdims=True))


def decoded(files: Sequence[Path], engine: Engine, real: Runner, rows: Sequence[tuple[Feed, Any]], length: int) -> str:
    """Reads the rows step by step; the line of a table."""
    border, steps = Border.of(ir.load(files[0])), len(files)
    starts = [behind(real, feed, length, length) for feed, _ in rows]
    caches = [border.codes({name: values for name, values in start.items() if PAST in name}) for start in starts]
    scores: list[list[Any]] = [[] for _ in rows]
    for step, file in enumerate(files, 1):
        part = slice(step * length, (step + 1) * length)
        feeds = [
            {**cache, "input_ids": feed["input_ids"][:, part]} for cache, (feed, _) in zip(caches, rows, strict=True)
        ]
        results = engine(file, feeds)
        caches = [given_back(dict(found)) for found in results]
        for found, some in zip(results, scores, strict=True):
            some.append(found["logits"][0])
    part, sums = slice(length, (steps + 1) * length), np.zeros(4)
    for (feed, labels), some in zip(rows, scores, strict=True):
        whole = real.run({**feed, "input_ids": feed["input_ids"][:, : part.stop]})
        wanted, got = log_softmax(whole["logits"][0, part]), log_softmax(np.concatenate(some))
        places, labels = np.arange(len(got)), labels[part]
        sums += (
            -got[places, labels].mean(), -wanted[places, labels].mean(),
            (np.exp(wanted) * (wanted - got)).sum(-1).mean(), (got.argmax(-1) == wanted.argmax(-1)).mean(),
        )  # fmt: skip
    loss, lowest, kl, equal = sums / len(rows)
    return f"perplexity {np.exp(loss):.3f} (float {np.exp(lowest):.3f}), KL {kl:.5f}, equal tokens {equal:.2%}"


def main() -> None:
    """Prints a line for each precision, kind and engine."""
    parser = argparse.ArgumentParser()
    for name in ("model", "calibration", "evaluation"):
        parser.add_argument(name, type=Path)
    for name, default in (("precisions", "w8a8,w8a16"), ("kinds", ",int8"), ("soc", "sm8650")):
        parser.add_argument(f"--{name}", default=default)
    for name, number in (("length", 16), ("steps", 3), ("samples", 16), ("rows", 32), ("emulate", 2)):
        parser.add_argument(f"--{name}", type=int, default=number)
    given = parser.parse_args()
    real, length, pasts = Runner(given.model), given.length, [given.length * n for n in range(given.steps, 0, -1)]
    samples = [behind(real, row(given.calibration, n)[0], pasts[0], length) for n in range(given.samples)]
    rows = [row(given.evaluation, n) for n in range(given.rows)]
    shapes = {"batch": "1", "length": str(length), "past": ALSO.join(map(str, pasts))}
    for precision in given.precisions.split(","):
        for kind in given.kinds.split(","):
            with tempfile.TemporaryDirectory() as folder:
                out = Path(folder) / "out"
                recipe = Recipe(
                    precision=precision, shapes=shapes, max_drop="none", sqnr_floor=-100.0,
                    options={"emulate": 0, "kv_cache": kind},
                )  # fmt: skip
                report = compile(given.model, f"qnn:{given.soc}", samples, output=out, recipe=recipe).report
                seen = report.backend
                files = [
                    out / ("model.qdq.onnx" if n == 1 else f"model_{n}.qdq.onnx") for n in range(len(pasts), 0, -1)
                ]
                head = f"{precision}, {kind or 'float'}: partitions {seen.get('partitions')}"
                head += f", islands {len(seen.get('islands', ()))}, {token_bytes(ir.load(files[0]))} bytes a token"
                print(f"{head}; onnxruntime: {decoded(files, onnxruntime, real, rows, length)}", flush=True)
                some = rows[: given.emulate]
                if some and kind:
                    for name, engine in (("onnxruntime", onnxruntime), ("emulator", emulator(given.soc))):
                        said = decoded(files, engine, real, some, length)
                        print(f"  {len(some)} rows, {name}: {said}", flush=True)


if __name__ == "__main__":
    main()
