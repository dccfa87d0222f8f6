"""What bits cost a language model: perplexity by method, bits and block, beside ONNX Runtime's own quantizer.

    python -m benchmarks.language_models MODEL CALIBRATION.npz EVALUATION.npz [--bits 4] [--block 32] [--format int]
                                         [--average-bits 3] [--methods rtn,gptq] [--peer] [--speed] [--symmetric]
                                         [--rotate]
    python -m benchmarks.language_models minilm_l6 ...       a model of the zoo, judged by its own metric

Layers alone are quantized, tables stay float, so that both sides store the same; products are computed in float32
(accuracy level 0) unless `--level` says otherwise. `--peer` needs the package onnx_ir, which ONNX Runtime's quantizer
imports; where weights stand behind other nodes, as in docs_llama, and it finds none, it gets the graph that ONNX
Runtime's basic optimizations write. `--rotate` turns the algorithm `rotate` on. `--speed` times steps of one token,
or of `--length`, in turns, and says the median of each.
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from benchmarks import zoo_data

Feed = dict[str, np.ndarray]


def session(path: Path) -> ort.InferenceSession:
    """One thread."""
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def samples(path: Path) -> list[Feed]:
    """Batches of one."""
    with np.load(path) as archive:
        arrays = dict(archive)
    return [{name: values[row : row + 1] for name, values in arrays.items()} for row in range(len(arrays["input_ids"]))]


def judge(path: Path, reference: Path, data: list[Feed]) -> dict[str, float]:
    """Perplexity, share of equal next tokens, and mean KL from the float model."""
    runs, floats = session(path), session(reference)
    names = [tensor.name for tensor in runs.get_inputs()]
    loss, same, divergence, count = 0.0, 0, 0.0, 0
    for sample in data:
        feed = {name: sample[name] for name in names}
        ours, theirs = (logarithms(s.run(None, feed)[0]) for s in (runs, floats))
        labels = sample.get("labels")
        if labels is None:
            ours, theirs, labels = ours[:, :-1], theirs[:, :-1], sample["input_ids"][:, 1:]
        loss -= float(np.take_along_axis(ours, labels[..., None], 2).sum())
        same += int((ours.argmax(-1) == theirs.argmax(-1)).sum())
        divergence += float((np.exp(theirs) * (theirs - ours)).sum())
        count += labels.size
    return {"perplexity": float(np.exp(loss / count)), "agreement": same / count, "kl": divergence / count}


def logarithms(logits: np.ndarray) -> np.ndarray:
    """log softmax in float64."""
    wide = logits.astype(np.float64)
    wide -= wide.max(-1, keepdims=True)
    return np.asarray(wide - np.log(np.exp(wide).sum(-1, keepdims=True)))


def in_zoo(entry: Any) -> Any:
    """What judges a file of a model of the zoo: its own metric, and the mean cosine with the float model's output."""
    floats = session(entry.path)

    def judged(path: Path) -> dict[str, float]:
        run, cosines = session(path), list[float]()

        def outputs(feed: Feed) -> list[np.ndarray]:
            ours, theirs = (s.run(None, feed) for s in (run, floats))
            a, b = (np.asarray(found[0], np.float64).reshape(-1) for found in (ours, theirs))
            cosines.append(float(a @ b / np.linalg.norm(a) / np.linalg.norm(b)))
            return list(ours)

        value = entry.evaluate(outputs)
        return {entry.metric: value, "cosine": float(np.mean(cosines))}

    return judged


def ours(model: Path, data: Path, folder: Path, method: str, options: dict[str, Any], rotate: bool) -> Path:
    """Our file."""
    from qcompiler import compiler
    from qcompiler.recipe import Recipe

    recipe = Recipe(precision="w4", weight_method=method, bench_seconds=0, options=options, sqnr_floor=-100)
    recipe = recipe.updated({"algorithms": {"rotate": rotate}})
    target = folder / f"{method}-{'-'.join(map(str, options.values()))}"
    compiler.compile(model, "onnxruntime", str(data), output=target, recipe=recipe)
    return target / "model.onnx"


def peer(model: Path, folder: Path, bits: int, block: int, symmetric: bool, level: int) -> Path:
    """The file of ONNX Runtime's MatMulNBitsQuantizer, by rounding to nearest."""
    import onnx
    from onnxruntime.quantization.matmul_nbits_quantizer import DefaultWeightOnlyQuantConfig, MatMulNBitsQuantizer

    logging.disable(logging.INFO)
    config = DefaultWeightOnlyQuantConfig(block_size=block, is_symmetric=symmetric, accuracy_level=level, bits=bits)
    target = folder / f"peer-{bits}-{block}-{symmetric}-{level}.onnx"
    for source in (model, folded(model, folder)):
        quantizer = MatMulNBitsQuantizer(onnx.load(source), algo_config=config)
        quantizer.process()
        quantizer.model.save_model_to_file(str(target), False)
        if any(node.op_type == "MatMulNBits" for node in quantizer.model.model.graph.node):
            break
    return target


def folded(model: Path, folder: Path) -> Path:
    """The graph as ONNX Runtime's basic optimizations write it."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath, options.log_severity_level = str(folder / "folded.onnx"), 3
    ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    return folder / "folded.onnx"


def step(paths: dict[str, Path], data: list[Feed], past: int, length: int, rounds: int = 200) -> dict[str, float]:
    """Median milliseconds of a step of `length` tokens behind `past` others; the files in turns, in an order of its own
    each time, since each finds the caches as the one before left them."""
    runs = {name: session(path) for name, path in paths.items()}
    times: dict[str, list[float]] = {name: [] for name in paths}
    rng = np.random.default_rng(0)
    for _ in range(rounds):
        for name in rng.permutation(list(runs)).tolist():
            feed, run = {}, runs[name]
            for tensor in run.get_inputs():
                value = data[0][tensor.name]
                if "past" in tensor.name:
                    value = np.zeros((*value.shape[:2], past, value.shape[3]), value.dtype)
                feed[tensor.name] = value[:, :length] if value.shape == data[0]["input_ids"].shape else value
            start = time.perf_counter()
            run.run(None, feed)
            times[name].append(time.perf_counter() - start)
    return {name: float(np.median(some)) * 1e3 for name, some in times.items()}


def main() -> None:
    """Prints a line for each file."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model", help="a file, or the name of a model of the zoo")
    parser.add_argument("calibration", type=Path, nargs="?")
    parser.add_argument("evaluation", type=Path, nargs="?")
    for name, default in (("bits", 0), ("block", 0), ("level", 0), ("past", 64), ("length", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--methods", default="rtn,mse,hqq,awq,gptq,auto")
    parser.add_argument("--format", default="int")
    parser.add_argument("--average-bits", type=float)
    parser.add_argument("--json", type=Path)
    for name in ("peer", "speed", "symmetric", "rotate"):
        parser.add_argument(f"--{name}", action="store_true")
    given = parser.parse_args()
    found: dict[str, dict[str, float]] = {}
    options = {
        "format": given.format, "bits": given.bits, "block": given.block, "table_bits": 0, "symmetric": given.symmetric,
        "accuracy_level": given.level,
    }  # fmt: skip
    if given.average_bits:
        options |= {"bits": 0, "average_bits": given.average_bits}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if given.evaluation is not None:
            model, calibration, data = Path(given.model), given.calibration, samples(given.evaluation)
            verdict = partial(judge, reference=model, data=data)
        else:
            entry = zoo_data.load().MODELS[given.model]
            feeds = zoo_data.feeds(entry)
            calibration = zoo_data.calibration_folder(feeds, folder / "data")
            model, data, verdict = entry.path, [zoo_data.bench_feed(given.model, feeds)], in_zoo(entry)
        files = {"float": model}
        if given.peer:
            files["peer"] = peer(model, folder, given.bits or 4, given.block or 32, given.symmetric, given.level)
        for method in filter(None, given.methods.split(",")):
            files[method] = ours(model, calibration, folder, method, options, given.rotate)
        speeds = step(files, data, given.past, given.length) if given.speed else {}
        for method, path in files.items():
            figures = verdict(path) | {"bytes": float(path.stat().st_size)}
            figures |= {"ms": speeds[method]} if speeds else {}
            found[method] = figures
            print(method, " ".join(f"{key} {value:.4g}" for key, value in figures.items()), flush=True)
    if given.json:
        given.json.write_text(json.dumps(vars(given) | {"found": found}, default=str, indent=1) + "\n")


if __name__ == "__main__":
    main()
