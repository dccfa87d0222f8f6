"""What a step more or less in every stored value costs: the QDQ model with jitter before each rounding, against itself.

    python -m benchmarks.qnn_rounding [NAME ...] [--precision w8a16] [--soc sm8650] [--samples 4] [--json FILE]

Emulator and ONNX Runtime round at different places, so that codes differ by a step here and there. Each activation
x on a grid with step s becomes x + s u, u uniform in [-0.5, 0.5], before it is rounded: one code in four is off by
one, none by more. The ratio (dB, the worst output) says how far two exact computations of one model may be apart; the
emulator is shown beside it. Where it is lower, kernels lose more than a rounding.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from benchmarks import zoo_data
from benchmarks.qnn import feeds, ours
from qcompiler import ir
from qcompiler.backends.qnn.compile import Settings, once
from qcompiler.backends.qnn.emulate import check, emulated, outputs_of
from qcompiler.backends.qnn.socs import parse


def jittered(model: ir.Model, seed: int = 0) -> ir.Model:
    """The model with noise of half a step before each QuantizeLinear of an activation."""
    found = model.copy()
    edit = ir.Editor(found, found.graph)
    for number, node in enumerate(found.nodes):
        if node.op != "QuantizeLinear" or isinstance(node.inputs[0], ir.Constant):
            continue
        x, scale = node.inputs[:2]
        noise = edit.add(
            "RandomUniformLike", [x], name=f"{node.name}_jitter", before=node, like=x,
            attrs={"low": -0.5, "high": 0.5, "seed": float(seed + number)},
        ).outputs[0]  # fmt: skip
        step = edit.add("Mul", [noise, scale], name=f"{node.name}_step", before=node, like=x).outputs[0]
        edit.set_input(node, 0, edit.add("Add", [x, step], name=f"{node.name}_sum", before=node, like=x).outputs[0])
    return found


def row(name: str, precision: str, soc: str, samples: int) -> tuple[float, float]:
    """Ratios of the jittered model and of the emulator, each against QDQ."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        model = ir.load(ours(name, precision, soc, work / "out"))
        given = feeds(name, samples, "evaluation")
        wanted = outputs_of(model, given)
        (work / "context").mkdir()
        once(model, Settings(parse(soc)), work / "context", work / "compile")
        got, _, error = emulated(
            work / "context/model_ctx.onnx", given, parse(soc)[0], work / "emulate", lambda *_: None
        )
        if error:
            raise SystemExit(f"{name}: {error}")
        sides = outputs_of(jittered(model), given), got
        jitter, emulator = (min(found.qdq for found in check(side, wanted, wanted).values()) for side in sides)
        return jitter, emulator


def main() -> None:
    """Prints a table, and writes it as JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--precision", default="w8a16")
    parser.add_argument("--soc", default="sm8650")
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    print("| model | precision | jitter | emulator |\n|---|---|---|---|", flush=True)
    rows = []
    for name in options.names or list(zoo_data.load().MODELS):
        for precision in options.precision.split(","):
            jitter, emulator = row(name, precision, options.soc, options.samples)
            print(f"| {name} | {precision} | {jitter:.1f} | {emulator:.1f} |", flush=True)
            rows.append({"model": name, "precision": precision, "jitter": jitter, "emulator": emulator})
    if options.json is not None:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
