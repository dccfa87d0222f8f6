"""The networks that the onnx package ships without weights (`onnx/backend/test/data/light`), through the command line.

    python -m benchmarks.light [--threads 1] [NAME ...]

Their weights are made up, so only that they compile and how fast the result is can be measured; the samples are seeded
normal values, which serve here as data for a made-up network and nowhere else.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"


def with_weights(path: Path, target: Path) -> onnx.ModelProto:
    """The network with initializers in place of the ConstantOfShape nodes that stand for them, in He's scale."""
    model = onnx.load(path)
    rng = np.random.default_rng(0)
    shapes = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    kept = []
    for node in model.graph.node:
        if node.op_type != "ConstantOfShape" or node.input[0] not in shapes:
            kept.append(node)
            continue
        shape = tuple(int(d) for d in shapes[node.input[0]])
        fan_in = max(1, int(np.prod(shape[1:])))
        values = np.abs(rng.normal(1, 0.1, shape)) if len(shape) < 2 else rng.normal(0, np.sqrt(2 / fan_in), shape)
        model.graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), node.output[0]))
    del model.graph.node[:]
    model.graph.node.extend(kept)
    onnx.save(model, target)
    return model


def samples(model: onnx.ModelProto, path: Path, count: int = 4) -> Path:
    """Seeded feeds for every input."""
    rng, known = np.random.default_rng(1), {t.name for t in model.graph.initializer}
    arrays = {}
    for info in model.graph.input:
        if info.name not in known:
            shape = [d.dim_value or 1 for d in info.type.tensor_type.shape.dim]
            arrays[info.name] = rng.normal(size=(count, *shape)).astype(np.float32)
    np.savez(path, **arrays)
    return path


def main() -> None:
    """Prints a line for each network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    print(f"{'network':24} {'exit':>4} {'shipped':8} {'speed-up':>8} {'seconds':>8}")
    for path in sorted(LIGHT.glob("light_*.onnx")):
        name = path.stem.removeprefix("light_")
        if arguments.names and name not in arguments.names:
            continue
        with tempfile.TemporaryDirectory() as folder:
            work = Path(folder)
            model = with_weights(path, work / "model.onnx")
            data = samples(model, work / "data.npz")
            command = [sys.executable, "-m", "qcompiler", str(work / "model.onnx"), "--target", "onnxruntime"]
            command += ["--data", str(data), "-o", str(work / "out"), "--json", "--threads", str(arguments.threads)]
            start = time.perf_counter()
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            seconds = time.perf_counter() - start
            report = json.loads(done.stdout) if done.stdout else {"target": {}, "latency": {}}
        shipped, gain = report["target"].get("shipped", "-"), report["latency"].get("speedup")
        print(
            f"{name:24} {done.returncode:4} {shipped:8} {gain or 0:8.2f} {seconds:8.1f}  {done.stderr[:160]}",
            flush=True,
        )


if __name__ == "__main__":
    main()
