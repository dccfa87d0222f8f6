"""Our int8 and fp8 for TensorRT beside ModelOpt's placement and calibration, on the same data, in ONNX Runtime.

    python -m benchmarks.modelopt_placement [--models NAME,...] [--samples 64] [--eval 100000]

Both see the same evaluation samples; what ours is better by comes with its interval of 90 % (paired bootstrap): of the
signal-to-noise ratio of the worst output, and of the metric.

ModelOpt itself is not needed: its rules, as seen by running version 0.47 (the project's TensorRT fact sheet, section
5.2), are written here as another table. INT8: Q and DQ on Conv, depthwise ones too, with at least 16 channels; on Gemm
and MatMul whose sides are at least 16, and both products of an attention; on both operands of an Add without constants
(on the identity alone where the other one is a convolution's result); on pools and on Mul without constants; weights by
channel, entropy calibration, the rest float16. FP8: Conv, Gemm, MatMul, attention and residual Add, with every INT8
scale times 448/127; no depthwise, no pools, more than 16 channels.
"""

from __future__ import annotations

import argparse
import itertools
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np

from benchmarks import zoo_data
from qcompiler import ir
from qcompiler.analysis import Runner, SessionConfig, collect, evaluate
from qcompiler.analysis.evaluate import Evaluation
from qcompiler.backends.tensorrt.backend import NO_FUSION, TensorRT
from qcompiler.backends.tensorrt.conditions import conv_before, in_attention, matrix, not_depthwise
from qcompiler.backends.tensorrt.spec import S8, S8_WEIGHT
from qcompiler.compiler import compile
from qcompiler.data import open_source
from qcompiler.frontend import front
from qcompiler.numerics.bootstrap import bootstrap_bounds
from qcompiler.passes.lower.materialise import Materialise
from qcompiler.passes.plan.encode import Encode
from qcompiler.passes.prepare.eliminate_dead import EliminateDead
from qcompiler.pipeline import Pipeline
from qcompiler.quant import PerAxis, PerTensor, QSpec, QuantPlan
from qcompiler.quant.qtype import FP8_E4M3, INT8
from qcompiler.recipe import Recipe
from qcompiler.search.candidates import Candidate, Drafter
from qcompiler.targets import Float, OpRule, TargetSpec
from qcompiler.targets.conditions import unscaled_gemm

CLASSIFIERS = ("mobilenetv3_small", "squeezenet10", "resnet20_cifar10", "vit_cifar10", "kws_dscnn")
MODELS = (*CLASSIFIERS, "minilm_l6")
CONFIG = SessionConfig(entries=(NO_FUSION,))


def channels(least: int) -> Any:
    """Convolutions with fewer channels are skipped."""

    def condition(node: ir.Node) -> str | None:
        rows, columns = node.inputs[1].shape[:2]
        few = rows < least or columns * int(node.attrs.get("group", 1)) < least
        return f"{node.name!r} has fewer than {least} channels" if few else None

    return condition


def no_constant(node: ir.Node) -> str | None:
    """Operators with a constant operand are skipped."""
    return f"{node.name!r} has a constant operand" if any(isinstance(t, ir.Constant) for t in node.inputs) else None


def identity_at(port: int) -> Any:
    """An Add whose other operand is a convolution's result, and this one none."""

    def condition(node: ir.Node) -> str | None:
        fits = conv_before(node.inputs[1 - port]) is not None and conv_before(node.inputs[port]) is None
        return None if fits else f"operand {port} of {node.name!r} is no identity"

    return condition


def rules(fp8: bool) -> tuple[OpRule, ...]:
    """ModelOpt's table."""
    conv = (channels(17), not_depthwise) if fp8 else (channels(16),)
    common = (
        OpRule("conv", ("Conv",), {0: S8, 1: S8_WEIGHT}, Float(), "5.2", conditions=conv),
        OpRule("gemm", ("Gemm",), {0: S8, 1: S8_WEIGHT}, Float(), "5.2", conditions=(unscaled_gemm, matrix)),
        OpRule("attention", ("MatMul",), {0: S8, 1: S8}, Float(), "5.2", conditions=(in_attention,)),
        OpRule("matmul", ("MatMul",), {0: S8, 1: S8_WEIGHT}, Float(), "5.2", conditions=(matrix,)),
        *(
            OpRule(f"skip-{port}", ("Add",), {port: S8}, Float(), "5.2", conditions=(no_constant, identity_at(port)))
            for port in (0, 1)
        ),
    )  # fmt: skip
    if fp8:
        return common
    return (
        *common,
        OpRule("add", ("Add", "Mul"), {0: S8, 1: S8}, Float(), "5.2", conditions=(no_constant,)),
        OpRule("pool", ("MaxPool", "AveragePool", "GlobalAveragePool"), {0: S8}, Float(), "5.2"),
    )


@dataclass(frozen=True)
class ModelOpt(TensorRT):
    """Our backend with ModelOpt's table."""

    fp8: bool = False

    @property
    def spec(self) -> TargetSpec:
        """The table under the name int8."""
        return replace(super().spec, schemes=MappingProxyType({"int8": rules(self.fp8)}))


def as_fp8(plan: QuantPlan) -> QuantPlan:
    """INT8 encodings as FP8: every scale times 448/127."""
    done = {}
    for site, decision in plan.sites.items():
        encoding = decision.encoding
        assert encoding is not None
        axis = encoding.spec.granularity.axis if isinstance(encoding.spec.granularity, PerAxis) else None
        spec = QSpec(FP8_E4M3, PerTensor() if axis is None else PerAxis(axis))
        scale = np.asarray(encoding.scale * np.float32(FP8_E4M3.high / INT8.high), np.float32)
        done[site] = replace(decision, choice=spec, encoding=replace(encoding, spec=spec, scale=scale))
    return plan.with_sites(done)


def modelopt(entry: Any, samples: Any, fp8: bool) -> Candidate:
    """The model by ModelOpt's rules with entropy calibration."""
    backend, prepared = ModelOpt(fp8=fp8), front(entry.path)
    drafter = Drafter(prepared.prepared, backend)
    draft = drafter.draft("int8")
    stats = collect(prepared.prepared, open_source(samples, prepared.inputs), drafter.statistics(draft))
    pipeline, model = Pipeline(), draft.model.copy()
    plan = pipeline.plan(model, draft.plan, [Encode(stats, "entropy")])
    plan = as_fp8(plan) if fp8 else plan
    pipeline.graph(model, [Materialise(plan), *backend.legalise(plan, stats, "int8"), EliminateDead()])
    return Candidate("int8", "entropy", draft.model, model, plan, pipeline.trace, simulated=backend.simulate(model))


def ahead(ours: Evaluation, other: Evaluation) -> tuple[tuple[float, float], tuple[float, float]]:
    """How much better ours is: in decibels of the output with most noise, and in the metric."""
    worst = min(ours.output_sqnr_db, key=lambda name: ours.output_sqnr_db[name])
    noise, noise_of_other = (np.array([one.power[worst][1] for one in found.records]) for found in (ours, other))
    rows, rows_of_other = (np.asarray(found.scores, np.float64) for found in (ours, other))

    def decibels(chosen: Any) -> Any:
        return 10 * np.log10(noise_of_other[chosen].sum(-1) / noise[chosen].sum(-1))

    def metric(chosen: Any) -> Any:
        gains = (rows - rows_of_other).reshape(len(noise), -1).mean(-1)
        return gains[chosen].mean(-1)

    ratio, gain = (bootstrap_bounds(each, len(noise), 0.05) for each in (decibels, metric))
    return ratio, gain


def main() -> None:
    """Prints one line for each model and precision."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--precisions", default="int8,fp8")
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--eval", type=int, default=100000)
    options = parser.parse_args()
    zoo = zoo_data.load()
    for name in options.models.split(","):
        entry = zoo.MODELS[name]
        samples = zoo_data.feeds(entry, options.samples)
        judged = [feed for feed, _ in itertools.islice(entry.samples(), options.eval)]
        for precision in options.precisions.split(","):
            recipe = Recipe(precision=precision, sqnr_floor=-100.0, max_drop=None)
            ours = compile(entry.path, "tensorrt", samples, recipe=recipe, evaluation=judged[:8])
            other = modelopt(entry, samples, precision == "fp8")
            backend, original = TensorRT(), ir.load(entry.path)
            found = evaluate(
                Runner(original, SessionConfig()),
                {"ours": Runner(backend.simulate(ours.model), CONFIG), "modelopt": Runner(other.runs, CONFIG)},
                open_source(judged, front(entry.path).inputs),
            )
            cells = [f"{name:18} {precision:5}"]
            for who, seen in found.items():
                cells.append(f"{who} {seen.value:.4f}, {min(seen.output_sqnr_db.values()):.1f} dB")
            ratio, metric = ahead(found["ours"], found["modelopt"])
            cells.append(f"ahead by {ratio[0]:+.1f} to {ratio[1]:+.1f} dB, {metric[0]:+.4f} to {metric[1]:+.4f}")
            print("; ".join(cells), f"({found['ours'].metric}, {len(judged)} samples)", flush=True)


if __name__ == "__main__":
    main()
