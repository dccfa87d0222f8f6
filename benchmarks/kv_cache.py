"""What a quantized cache of keys and values costs: perplexity, KL, bytes, and the time of one step.

    python -m benchmarks.kv_cache MODEL CALIBRATION.npz EVALUATION.npz [--kinds ,int8,fp8,int4] [--samples 16]
                                  [--past 1024]
    python -m benchmarks.kv_cache --kinds ,int8,int4 --past 8192      a decoder whose caches GroupQueryAttention keeps

Layers have 8 bits and tables none, so that next to nothing but the cache is lost; the first kind is a float cache.
Milliseconds are those of one token behind `--past` others on one thread, the files in turns. The decoder, of two
layers, 16 heads and 4 of keys and values, has made-up weights (`models.decoder`): KL alone says something there.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime as ort

from benchmarks.language_models import session
from models.decoder import Sizes, write

TOKENS, ROWS = 64, 16
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


def made(folder: Path, past: int) -> list[Path]:
    """A decoder, and rows of random tokens to calibrate and to judge it with."""
    sizes, rng = Sizes(2, 1024, 256, 512, length=past + TOKENS, half=False), np.random.default_rng(0)
    files = [write(folder, sizes), folder / "calibration.npz", folder / "evaluation.npz"]
    empty = np.zeros((ROWS, sizes.groups, 0, 64), np.float32)
    caches = {f"past_key_values.{n}.{part}": empty for n in range(sizes.layers) for part in ("key", "value")}
    for file in files[1:]:
        ids = rng.integers(0, sizes.vocabulary, (ROWS, TOKENS + 1))
        tokens = {"input_ids": ids[:, :-1], "labels": ids[:, 1:], "attention_mask": np.ones((ROWS, TOKENS), np.int64)}
        np.savez(file, allow_pickle=False, **tokens, **caches)
    return files


def main() -> None:
    """Prints a line for each kind."""
    from qcompiler import Recipe, compile

    parser = argparse.ArgumentParser()
    parser.add_argument("files", type=Path, nargs="*", metavar="MODEL CALIBRATION EVALUATION")
    parser.add_argument("--kinds", default=",int8,fp8,int4")
    for name, default in (("samples", 16), ("past", 1024), ("rounds", 60)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model, calibration, evaluation = given.files or made(Path(folder) / "decoder", given.past)
        files = {}
        for kind in given.kinds.split(","):
            options = {"bits": 8, "table_bits": 0, "accuracy_level": 0, "kv_cache": kind}
            recipe = Recipe(
                precision="w4", weight_method="rtn", metric="perplexity", samples=given.samples, max_drop="none",
                bench_seconds=0, options=options,
            )  # fmt: skip
            target = Path(folder) / (kind or "float")
            report = compile(
                model, "onnxruntime", str(calibration), output=target, recipe=recipe, evaluation=str(evaluation)
            ).report
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
