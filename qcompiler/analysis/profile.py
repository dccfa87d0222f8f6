"""How long each node of the optimised graph takes, by ONNX Runtime's own profiler (about 2 us too much each)."""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompiler import ir
from qcompiler.analysis.run import Runner, SessionConfig
from qcompiler.analysis.timing_cache import TimingCache, shapes_of

_KERNEL = "_kernel_time"


@dataclass(frozen=True, slots=True)
class NodeTime:
    """One node of the optimised graph: its operator, and the median of its seconds over the runs."""

    op: str
    seconds: float


def node_times(
    model: ir.Model,
    feed: Mapping[str, npt.NDArray[Any]],
    *,
    config: SessionConfig | None = None,
    runs: int = 20,
    cache: TimingCache | None = None,
) -> dict[str, NodeTime]:
    """The time of each node, by its name in the optimised graph, in order of first execution.

    Args:
        model: to be run.
        feed: one sample.
        config: session settings.
        runs: how often; one run before them is not counted.
        cache: what it remembers is not measured again.
    """
    with tempfile.TemporaryDirectory() as folder:
        runner = Runner(model, replace(config or SessionConfig(), profile=Path(folder) / "profile"))

        def fresh() -> dict[str, Any]:
            for _ in range(runs + 1):
                runner.run(feed)
            return _medians(json.loads(runner.end_profile().read_text(encoding="utf-8")))

        found = (cache or TimingCache()).get(["profile", runs, shapes_of(feed), runner.digest], fresh)
    return {name: NodeTime(op, seconds) for name, (op, seconds) in found.items()}


def _medians(events: list[dict[str, Any]]) -> dict[str, Any]:
    """Operator and median seconds of each node of a trace."""
    ops: dict[str, str] = {}
    times: dict[str, list[float]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith(_KERNEL):
            name = event["name"].removesuffix(_KERNEL)
            ops.setdefault(name, event["args"].get("op_name", ""))
            times[name].append(event["dur"] * 1e-6)
    return {name: (op, float(np.median(times[name][1:] or times[name]))) for name, op in ops.items()}
