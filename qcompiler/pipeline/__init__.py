"""Passes, the pipeline that runs them, and the trace of what they did."""

from qcompiler.pipeline.passes import GraphPass, Instrument, PassRecord, Pipeline, PlanPass, Trace

__all__ = ["GraphPass", "Instrument", "PassRecord", "Pipeline", "PlanPass", "Trace"]
