"""What a quantized cache of keys and values costs: perplexity, KL, bytes, and the time of one step.

    python -m benchmarks.kv_cache MODEL CALIBRATION.npz EVALUATION.npz [--kinds ,int8,fp8,int4] [--samples 16]
                                  [--past 1024]

Layers have 8 bits and tables none, so that next to nothing but the cache is lost; the first kind is a float cache.
Milliseconds are those of one token behind `--past` others on one thread, the files in turns.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime as ort

from benchmarks.language_models import session

TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int8)": np.int8, "tensor(uint8)": np.uint8}


def step(run: ort.InferenceSession, past: int) -> dict[str, np.ndarray]:
    """A feed of one token behind a cache of random codes."""
    rng, feed = np.random.default_rng(0), {}
    for tensor in run.get_inputs():
        dtype = TYPES.get(tensor.type, np.int64)
        if "past" in tensor.name:
            shape = [1, tensor.shape[1], past, tensor.shape[3]]
            feed[tensor.name] = np.abs(rng.standard_normal(shape) * 20 + 64).clip(0, 100).astype(dtype)
            feed[tensor.name] *= dtype(1) if np.dtype(dtype).kind != "f" else dtype(0.01)
        else:
            feed[tensor.name] = np.ones((1, past + 1 if "mask" in tensor.name else 1), np.int64)
    return feed


def main() -> None:
    """Prints a line for each kind."""
    from qcompiler import Recipe, compile

    parser = argparse.ArgumentParser()
    for name in ("model", "calibration", "evaluation"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--kinds", default=",int8,fp8,int4")
    for name, default in (("samples", 16), ("past", 1024), ("rounds", 60)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = {}
        for kind in given.kinds.split(","):
            options = {"bits": 8, "table_bits": 0, "accuracy_level": 0, "kv_cache": kind}
            recipe = Recipe(
                precision="w4", weight_method="rtn", metric="perplexity", samples=given.samples, max_drop="none",
                bench_seconds=0, options=options,
            )  # fmt: skip
            target = Path(folder) / (kind or "float")
            report = compile(
                given.model, "onnxruntime", str(given.calibration), output=target, recipe=recipe,
                evaluation=str(given.evaluation),
            ).report  # fmt: skip
            files[target.name] = target / "model.onnx"
            said = next((note for note in report.notes if "bytes of cache" in note), "")
            print(
                f"{target.name}: perplexity {report.accuracy.quantized:.4f} (float {report.accuracy.float:.4f}),"
                f" KL {report.language['kl']:.6f}, agreement {report.language['agreement']:.4f}; {said}", flush=True,
            )  # fmt: skip
        runs = {name: session(path) for name, path in files.items()}
        feeds = {name: step(run, given.past) for name, run in runs.items()}
        times: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(given.rounds):
            for name, run in runs.items():
                start = time.perf_counter()
                run.run(None, feeds[name])
                times[name].append(time.perf_counter() - start)
        print(", ".join(f"{name} {np.median(some) * 1e3:.2f} ms" for name, some in times.items()))


if __name__ == "__main__":
    main()
