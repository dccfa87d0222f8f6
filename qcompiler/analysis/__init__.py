"""Run a model, collect statistics, compare, evaluate, time: what is learnt from samples. Changes no graph."""

from qcompiler.analysis.ask import measure_for
from qcompiler.analysis.collect import Progress, collect
from qcompiler.analysis.compare import Comparison, TensorComparison, compare, first_broken
from qcompiler.analysis.evaluate import Evaluation, Runs, evaluate, records, sweep
from qcompiler.analysis.fingerprint import fingerprint
from qcompiler.analysis.kinds import (
    CHANNEL_RANGE,
    HISTOGRAM,
    ChannelAbsMaxKind,
    ChannelHistogramKind,
    HistogramKind,
    Kind,
)
from qcompiler.analysis.latency import Speedup, Timing, measure, measure_each, speedup
from qcompiler.analysis.measures import Measure
from qcompiler.analysis.metrics import Metric, load_metric
from qcompiler.analysis.observe import refusals
from qcompiler.analysis.payload import Payload
from qcompiler.analysis.profile import NodeTime, node_times, node_times_each
from qcompiler.analysis.record import Record
from qcompiler.analysis.run import Runner, SessionConfig
from qcompiler.analysis.stats import Stats, TensorStats
from qcompiler.analysis.timing_cache import TimingCache

__all__ = [
    "CHANNEL_RANGE",
    "HISTOGRAM",
    "ChannelAbsMaxKind",
    "ChannelHistogramKind",
    "Comparison",
    "Evaluation",
    "HistogramKind",
    "Kind",
    "Measure",
    "Metric",
    "NodeTime",
    "Payload",
    "Progress",
    "Record",
    "Runner",
    "Runs",
    "SessionConfig",
    "Speedup",
    "Stats",
    "TensorComparison",
    "TensorStats",
    "Timing",
    "TimingCache",
    "collect",
    "compare",
    "evaluate",
    "fingerprint",
    "first_broken",
    "load_metric",
    "measure",
    "measure_each",
    "measure_for",
    "node_times",
    "node_times_each",
    "records",
    "refusals",
    "speedup",
    "sweep",
]
