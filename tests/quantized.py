"""For tests of plans: a float model through annotate, encode, materialise, and what ONNX Runtime makes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import onnx

from qcompiler import ir
from qcompiler.backends import get
from qcompiler.backends.conformance import Conformance
from qcompiler.errors import DataError
from qcompiler.numerics.channel_histogram import ChannelHistogram
from qcompiler.numerics.histogram import Histogram
from qcompiler.numerics.observers import ChannelRange
from qcompiler.passes.lower.materialise import Materialise
from qcompiler.passes.plan.annotate import Annotate
from qcompiler.passes.plan.derive_bias import DeriveBias
from qcompiler.passes.plan.encode import Encode, wanted
from qcompiler.passes.plan.share_concat import ShareConcat
from qcompiler.passes.prepare.eliminate_dead import EliminateDead
from qcompiler.pipeline import GraphPass, Pipeline
from qcompiler.quant import Encoding, Precision, QuantPlan, Site
from tests.graphs import Arrays, feed_for, run, session

BACKEND = get("onnxruntime")
SPEC = BACKEND.spec


@dataclass
class Seen:
    """Histograms of every tensor that a model computes on some feeds."""

    histograms: Mapping[str, Histogram]

    def histogram(self, tensor: str) -> Histogram:
        if tensor not in self.histograms:
            raise DataError("was not observed", where=tensor)
        return self.histograms[tensor]

    def channels(self, tensor: str, axis: int) -> ChannelHistogram | None:
        return None

    def shape(self, tensor: str) -> tuple[int | None, ...] | None:
        return None

    def channel_range(self, tensor: str, axis: int = 1) -> ChannelRange | None:
        return None

    @staticmethod
    def of(model: ir.Model, names: Sequence[str], feeds: Sequence[Arrays]) -> Seen:
        found = {name: Histogram.empty() for name in names}
        for feed in feeds:
            for name, values in observe(model, names, feed).items():
                found[name] = found[name].update(values)
        return Seen(found)


def observe(model: ir.Model, names: Sequence[str], feed: Arrays) -> dict[str, object]:
    """Values of some tensors, inputs among them, with optimisation off."""
    twin = ir.Model.from_proto(model.to_proto())
    proto = twin.to_proto()
    have = {value.name for value in proto.graph.output}
    proto.graph.output.extend(onnx.ValueInfoProto(name=n) for n in names if n not in have and n not in feed)
    found = session(ir.Model.from_proto(proto))
    values = dict(zip([value.name for value in found.get_outputs()], found.run(None, dict(feed)), strict=True))
    return {name: {**values, **feed}[name] for name in names}


def annotate(
    model: ir.Model,
    precision: Precision = "int8",
    keep_float: tuple[str, ...] = (),
    given: Mapping[Site, Encoding] | None = None,
    only_given: bool = False,
) -> tuple[QuantPlan, list[str]]:
    """The plan without numbers, and "node: reason" of every refusal."""
    pipeline = Pipeline()
    step = Annotate(SPEC, precision, keep_float, given or {}, only_given)
    plan = pipeline.plan(model, QuantPlan(), [step])
    return plan, [f"{r.node}: {r.reason}" for r in pipeline.trace.records[-1].refusals]


@dataclass
class Quantized:
    """A quantized model and how it came about."""

    before: ir.Model
    plan: QuantPlan
    model: ir.Model
    pipeline: Pipeline
    feeds: Sequence[Arrays] = field(default_factory=list)

    @property
    def notes(self) -> list[str]:
        return self.pipeline.trace.notes

    def optimised(self) -> Conformance:
        """What ONNX Runtime runs."""
        return BACKEND.inspect(self.model, self.plan.nodes)

    def outputs(self, *, optimize: bool = False, sample: int = 0) -> list[object]:
        return run(self.model, self.feeds[sample], optimize=optimize)


def quantize(
    model: ir.Model,
    precision: Precision = "int8",
    *,
    keep_float: tuple[str, ...] = (),
    given: Mapping[Site, Encoding] | None = None,
    only_given: bool = False,
    method: str = "minmax",
    feeds: Sequence[Arrays] | None = None,
    legalise: bool = True,
    share: bool = True,
) -> Quantized:
    """The whole way from a float model to a quantized one, calibrated on `feeds`."""
    feeds = feeds or [feed_for(model, seed) for seed in range(3)]
    plan, _ = annotate(model, precision, keep_float, given, only_given)
    stats = None if only_given else Seen.of(model, wanted(model, plan), feeds)
    pipeline = Pipeline()
    steps = [Encode(stats, method), *([ShareConcat()] if share else []), DeriveBias()]
    plan = pipeline.plan(model, plan, steps)
    after = model.copy()
    tail: list[GraphPass] = [*(BACKEND.legalise(plan, None, "int8") if legalise else ()), EliminateDead()]
    pipeline.graph(after, [Materialise(plan), *tail])
    onnx.checker.check_model(after.to_proto(), full_check=True)
    return Quantized(model, plan, after, pipeline, feeds)
