"""The prepared model in the forms that a target wants, with the same function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from qcompiler import ir
from qcompiler.analysis.same_function import SameFunction
from qcompiler.backends.base import Backend, Conditioning
from qcompiler.pipeline import Instrument, Pipeline, Span, guarded
from qcompiler.quant import Precision


@dataclass(frozen=True, eq=False)
class Conditioned:
    """The prepared model after a target's rewrites.

    Attributes:
        model: ready for a plan.
        conditioning: what the rewrites filled in.
        pipeline: that ran them.
        spans: them all, where they changed anything.
    """

    model: ir.Model
    conditioning: Conditioning
    pipeline: Pipeline
    spans: Sequence[Span]


def conditioned(
    prepared: ir.Model,
    backend: Backend,
    precision: Precision,
    keep_float: tuple[str, ...],
    same: SameFunction,
    instruments: Sequence[Instrument] = (),
) -> Conditioned:
    """Makes the target's rewrites, without those that change what the model computes."""

    def travel(without: Mapping[str, str], until: int | None = None) -> Conditioned:
        pipeline = Pipeline(instruments=() if until else instruments, without=without, until=until)
        model, conditioning = prepared.copy(), backend.condition(precision, keep_float)
        changed = pipeline.graph(model, conditioning.passes)
        spans = [Span(prepared, model, 0, len(pipeline.trace.records))] if changed else []
        return Conditioned(model, conditioning, pipeline, spans)

    return guarded(travel, travel({}), same)
