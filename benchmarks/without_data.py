"""Bias correction without data, off and on: the error of layer means, and the metric, for weights stored in fewer bits.

    python -m benchmarks.without_data [NAME ...] [--samples 64]

    left    of the mean error that rounded weights add to their layers, on real data, the share (of its square) that is
            left by the correction, over all layers that it corrects
    SQNR    of the worst output against float, over the first `--samples` evaluation samples
    metric  over all of them

Models whose BatchNormalizations were folded before they were exported get them back: an identity with the mean and the
deviation that the layer's result has on calibration data, which is what training would have left there.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import onnx

from benchmarks import zoo_data
from qcompiler import backends, ir
from qcompiler.analysis import HISTOGRAM, ChannelHistogramKind, Kind, Runner, Stats, collect, evaluate
from qcompiler.data import Sample, Source, open_source
from qcompiler.frontend import Frontend, front
from qcompiler.passes.lower.correct_float_bias import error, reading
from qcompiler.passes.plan.correct_bias import response
from qcompiler.passes.plan.promised_means import promised
from qcompiler.passes.plan.taps import Reading
from qcompiler.quant import Site
from qcompiler.search.candidates import Candidate, Drafter
from qcompiler.search.weights_in_blocks import with_codes

NAMES = ("kws_dscnn", "resnet20_cifar10", "mobilenetv3_small", "ppocrv3_det")
SCHEMES = (("onnxruntime", "w8"), ("onnxruntime", "w4"), ("coreml", "w8"), ("coreml", "w4-palette"))


def normalized(model: ir.Model, source: Source, path: Path) -> Path:
    """The model with an identical BatchNormalization behind each Conv, saved."""
    convs = [node for node in model.nodes if node.op == "Conv"]
    kinds: dict[str, tuple[Kind, ...]] = {n.outputs[0].name: (HISTOGRAM, ChannelHistogramKind(1)) for n in convs}
    stats, edit = collect(model, source, kinds), ir.Editor(model, model.graph)
    for node in convs:
        value = node.outputs[0]
        held, whole = stats.channels(value.name, 1), stats.histogram(value.name)
        if held is None:
            continue
        mean = held.means(whole)
        var = np.maximum(held.mean_squares(whole) - mean**2, 1e-6)
        numbers = [v.astype(np.float32) for v in (np.sqrt(var), mean, mean, var)]
        constants = [edit.constant(f"{node.name}_norm", values) for values in numbers]
        norm = edit.add(
            "BatchNormalization", [value, *constants], name=f"{node.name}_norm", attrs={"epsilon": 0.0}, like=value
        )
        edit.replace_uses(value, norm.outputs[0], keep=[norm])
    onnx.save(model.to_proto(), path)
    return path


def left(frontend: Frontend, made: Candidate, source: Source) -> float:
    """The share of the squared mean error of corrected layers that the correction leaves."""
    means = promised(made.planned, frontend.promised)
    layers = [
        node for node in made.planned.nodes
        if node.op in ("Conv", "Gemm", "MatMul") and node.inputs[0].name in means
        and Site(node.inputs[1].name, node.name, 1) in made.plan.sites
    ]  # fmt: skip
    axes = {node.inputs[0].name: 1 if node.op == "Conv" else -1 for node in layers}
    kinds: dict[str, tuple[Kind, ...]] = {name: (HISTOGRAM, ChannelHistogramKind(axis)) for name, axis in axes.items()}
    stats: Stats = collect(frontend.prepared, source, kinds)
    before, after = 0.0, 0.0
    for node in layers:
        name, encoding = node.inputs[0].name, made.plan.sites[Site(node.inputs[1].name, node.name, 1)].encoding
        held = stats.channels(name, axes[name])
        if held is None or encoding is None or len(node.inputs[1].shape) < 2:
            continue
        whole, off, said = stats.histogram(name), error(node, encoding), reading(node, means[name])
        mean, squares = held.means(whole), held.mean_squares(whole)
        real, power = Reading(mean, np.square(mean), said.shares), float(squares.mean()) or 1.0
        wrong = response(node, off, real)
        before += float(np.square(wrong).mean()) / power
        after += float(np.square(wrong - response(node, off, said)).mean()) / power
    return after / before if before else math.nan


def candidates(frontend: Frontend, target: str, precision: str) -> Iterator[tuple[str, Candidate]]:
    """Without and with correction."""
    drafter = Drafter(frontend.prepared, backends.get(target), only_given=True, promised=frontend.promised)
    draft = with_codes(drafter.draft(precision), None, "auto", 1 << 28, lambda *_: None)
    for on in (False, True):
        using = replace(drafter, algorithms=drafter.algorithms.updated({"correct-bias": on}))
        yield "on" if on else "off", using.candidate(draft, None, "auto", {})


def bench(name: str, samples: int, work: Path) -> None:
    """Prints the table of one model."""
    entry = zoo_data.load().MODELS[name]
    frontend = front(entry.path)
    source = open_source(str(zoo_data.calibration_folder(zoo_data.feeds(entry), work / name)), frontend.inputs)
    if not frontend.promised:
        frontend = front(normalized(frontend.prepared.copy(), source, work / f"{name}.onnx"))
    print(f"{name} ({entry.metric}, float {entry.float_value:.4f}), {len(frontend.promised)} folded", flush=True)
    judged = [Sample(feed, None, str(i)) for i, (feed, _) in enumerate(islice(entry.samples(), samples))]
    reference = Runner(frontend.original)
    for target, precision in SCHEMES:
        made = dict(candidates(frontend, target, precision))
        (changes,) = [r.changes for r in made["on"].trace.records if r.name == "correct-float-bias"]
        if not changes:
            print(f"  {target:12} {precision:11} nothing to correct", flush=True)
            continue
        for label, candidate in made.items():
            runner = Runner(candidate.runs)
            ratio = min(evaluate(reference, {"": runner}, judged)[""].output_sqnr_db.values(), default=math.inf)
            value = entry.evaluate(lambda feed, runner=runner: list(runner.run(feed).values()))
            said = f"{changes} layers, left {left(frontend, candidate, source):.2f}" if label == "on" else ""
            print(f"  {target:12} {precision:11} {label:4} {value:8.4f} {ratio:7.2f} dB  {said}", flush=True)


def main() -> None:
    """Prints a table for each model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(NAMES), help="zoo models")
    parser.add_argument("--samples", type=int, default=64)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.names:
            bench(name, arguments.samples, Path(folder))


if __name__ == "__main__":
    main()
