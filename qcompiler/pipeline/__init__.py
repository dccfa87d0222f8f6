"""Passes, the pipeline that runs them, and the trace of what they did."""

from qcompiler.pipeline.guard import Journey, Span, guarded
from qcompiler.pipeline.passes import GraphPass, Halted, Instrument, PassRecord, Pipeline, PlanPass, Trace, some

__all__ = [
    "GraphPass",
    "Halted",
    "Instrument",
    "Journey",
    "PassRecord",
    "Pipeline",
    "PlanPass",
    "Span",
    "Trace",
    "guarded",
    "some",
]
