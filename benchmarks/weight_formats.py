"""What each format of weights in blocks costs in ONNX Runtime: bytes, loading, memory, and time by rows of the input.

    python -m benchmarks.weight_formats [--width 2048] [--layers 4] [--formats int:4,nf4:4]

A stack of square layers with random weights is compiled in each format, by rounding to nearest, and loaded in a process
of its own, on one thread. Times are those of the processor, so that what else runs on the machine counts little; the
least of a few runs each. `bnb4` is MatMulBnb4, ONNX Runtime's operator for nf4, `fp8-dq` DequantizeLinear of FP8, as
`--portable` leaves it. Memory is resident, above that of the process before: the peak of loading, and after running.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

FORMATS = (
    "float,int:8,int:4,int:3,int:2,ternary:2,nf4:4,fp4:4,mxfp4:4,nvfp4:4,codebook:4,codebook:3,fp8:8,fp8-dq:8,bnb4:4"
)
ROWS = (1, 16, 128)
RUNS = 7
MIB = 1 << 20


def stack(path: Path, width: int, layers: int, *, bnb4: bool = False) -> None:
    """Writes the float model, or one of ONNX Runtime's operators for nf4 with random codes."""
    rng, nodes, constants = np.random.default_rng(0), [], []
    for i in range(layers):
        ends = ("x" if i == 0 else f"x{i}", "y" if i == layers - 1 else f"x{i + 1}")
        if bnb4:
            constants.append(numpy_helper.from_array(rng.integers(0, 256, width * width // 2, np.uint8), f"b{i}"))
            constants.append(numpy_helper.from_array(np.full(width * width // 32, 0.02, np.float32), f"s{i}"))
            attrs = {"K": width, "N": width, "block_size": 32, "quant_type": 1}
            inputs = [ends[0], f"b{i}", f"s{i}"]
            nodes.append(helper.make_node("MatMulBnb4", inputs, ends[1:], domain="com.microsoft", **attrs))
        else:
            weight = rng.standard_normal((width, width), np.float32) / np.float32(np.sqrt(width))
            constants.append(numpy_helper.from_array(weight, f"w{i}"))
            nodes.append(helper.make_node("MatMul", [ends[0], f"w{i}"], ends[1:], name=f"layer{i}"))
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", width]) for name in "xy"]
    graph = helper.make_graph(nodes, "stack", values[:1], values[1:], constants)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)


def made(kind: str, model: Path, folder: Path, width: int, layers: int) -> Path:
    """The file of a format."""
    from qcompiler import Recipe, compile

    name, _, bits = kind.partition(":")
    if name == "float":
        return model
    if name == "bnb4":
        stack(folder / "bnb4.onnx", width, layers, bnb4=True)
        return folder / "bnb4.onnx"
    options = {"format": name.removesuffix("-dq"), "bits": int(bits), "portable": name.endswith("-dq")}
    recipe = Recipe(precision="w4", weight_method="rtn", bench_seconds=0, options=options)
    compile(model, "onnxruntime", output=folder / kind.replace(":", "-"), recipe=recipe)
    return folder / kind.replace(":", "-") / "model.onnx"


def memory(entry: str) -> float:
    """MiB of this process in memory, by the name of the kernel: VmRSS now, VmHWM at most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(entry)).split()[1]) / 1024


def measure(path: Path) -> None:
    """Prints a row of figures for a file."""
    before, start = memory("VmRSS"), time.process_time()
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    load = time.process_time() - start
    peak = memory("VmHWM") - before
    times = []
    for rows in ROWS:
        x = np.random.default_rng(0).standard_normal((rows, session.get_inputs()[0].shape[1]), np.float32)
        spent = []
        for _ in range(RUNS):
            start = time.process_time()
            session.run(None, {"x": x})
            spent.append(time.process_time() - start)
        times.append(f"{min(spent) * 1e3:.1f}")
    size, held = path.stat().st_size / MIB, memory("VmRSS") - before
    print(f"{size:.1f} | {load:.2f} | {peak:.0f} | {held:.0f} |", " | ".join(times), "|", flush=True)


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--formats", default=FORMATS)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure is not None:
        measure(given.measure)
        return
    print("| format | MiB | load, s | peak, MiB | after, MiB |", " | ".join(f"ms, {rows} rows" for rows in ROWS), "|")
    print("|---" * (5 + len(ROWS)) + "|")
    with tempfile.TemporaryDirectory() as name:
        folder, model = Path(name), Path(name) / "float.onnx"
        stack(model, given.width, given.layers)
        for kind in given.formats.split(","):
            path = made(kind, model, folder, given.width, given.layers)
            print(f"| {kind.replace(':', ' ')} |", end=" ", flush=True)
            subprocess.run([sys.executable, "-m", "benchmarks.weight_formats", "--measure", path], check=True)


if __name__ == "__main__":
    main()
