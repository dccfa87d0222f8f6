"""The zoo for TensorRT: what the builder makes of each model and precision, and what is left of its accuracy.

    python -m benchmarks.tensorrt [--models NAME,...] [--samples 64] [--eval 128] [--json FILE]

One row for each model and precision: kernels by type, nodes that compute otherwise than planned, size of the engine and
that of the float16 engine, build time, agreement with float on evaluation samples, and the worst signal-to-noise ratio
of an output. No limit is set, so every evaluation sample is looked at. Labels are left out: those of some models of the
zoo are shifted by one. Engines are built for sm89, of NVFP4 for sm120. Refused models have a row that says why.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import zoo_data
from qcompiler.compiler import compile
from qcompiler.errors import QCompilerError
from qcompiler.recipe import Recipe

TRANSFORMERS = ("vit_cifar10", "minilm_l6", "stories260k")
SHAPES = {
    "ppocrv3_det": {"x": "1x3x320x320:1x3x640x640:1x3x960x960"},
    "minilm_l6": {"N": "1:8:32", "T": "8:64:256"},
    "stories260k": {"N": "1:1:4", "T": "8:64:256"},
}


def precisions(name: str) -> list[tuple[str, str]]:
    """Variant and precision of each row."""
    more = [("sm89", "fp8"), ("sm89", "w4"), ("sm120", "nvfp4")] if name in TRANSFORMERS else []
    return [("sm89", "fp16"), ("sm89", "int8"), *more]


def row(entry: Any, name: str, variant: str, precision: str, samples: int, judged: int) -> dict[str, Any]:
    """One compile."""

    def seen() -> Iterator[Any]:
        return itertools.islice(entry.calibration(), samples)

    def unseen() -> Iterator[Any]:
        return (feed for feed, _ in itertools.islice(entry.samples(), judged))

    recipe = Recipe(precision=precision, shapes=SHAPES.get(name, {}), sqnr_floor=-100.0, max_drop=None)
    with tempfile.TemporaryDirectory() as folder:
        try:
            result = compile(
                entry.path, f"tensorrt:{variant}", seen, evaluation=unseen, output=Path(folder) / "out", recipe=recipe,
            )  # fmt: skip
        except QCompilerError as error:
            return {"refused": str(error)[:300]}
    report = result.report
    backend = dict(report.backend)
    mine = next(line for line in report.candidates if line.precision == precision)
    return {
        "exit": result.exit_status,
        "shipped": report.target["shipped"],
        "kernels": backend.get("kernels_by_precision"),
        "otherwise": [f"{f['node']}: {f['runs_as']}" for f in backend["fallback"]],
        "unpacked": len(backend.get("weights_unpacked", [])),
        "engine_bytes": backend.get("engine_bytes"),
        "seconds": backend.get("seconds"),
        "metric": report.accuracy.metric,
        "samples": report.accuracy.samples,
        "float": report.accuracy.float,
        "quantized": mine.metric,
        "sqnr_db": mine.worst_sqnr_db,
        "failures": backend["failures"],
    }


def main() -> None:
    """Prints the table; writes it with `--json`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default="")
    parser.add_argument("--precisions", default="")
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--eval", type=int, default=128)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    zoo = zoo_data.load()
    found: dict[str, dict[str, Any]] = {}
    for name, entry in zoo.MODELS.items():
        if options.models and name not in options.models.split(","):
            continue
        half = 0
        for variant, precision in precisions(name):
            if options.precisions and precision not in options.precisions.split(","):
                continue
            seen = row(entry, name, variant, precision, options.samples, options.eval)
            half = seen.get("engine_bytes") or half if precision == "fp16" else half
            if half and seen.get("engine_bytes"):
                seen["of_fp16"] = round(seen["engine_bytes"] / half, 3)
            found[f"{name} {precision}"] = seen
            print(f"{name:18} {variant:5} {precision:5} {json.dumps(seen)}", flush=True)
            if options.json is not None:
                options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
