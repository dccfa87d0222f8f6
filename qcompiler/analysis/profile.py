"""How long each node of the optimised graph takes, by ONNX Runtime's own profiler (about 2 us too much each).

Models that are to be compared are run in turns, a few runs each, so that whatever else the machine does meets all of
them alike. How much the times of a node scatter is said beside their median.
"""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from qcompiler import ir
from qcompiler.analysis.run import Runner, SessionConfig
from qcompiler.analysis.timing_cache import TimingCache, shapes_of

_KERNEL = "_kernel_time"


# Runs of one model before the next has its turn.
_TURN = 5
_Label = TypeVar("_Label", bound=Hashable)


@dataclass(frozen=True, slots=True)
class NodeTime:
    """One node of the optimised graph.

    Attributes:
        op: its operator.
        seconds: median over the runs.
        noise: half the distance of their quartiles, in seconds.
    """

    op: str
    seconds: float
    noise: float = 0.0


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
    return node_times_each({"": model}, feed, config=config, runs=runs, cache=cache)[""]


def node_times_each(
    models: Mapping[_Label, ir.Model],
    feed: Mapping[str, npt.NDArray[Any]],
    *,
    config: SessionConfig | None = None,
    runs: int = 20,
    cache: TimingCache | None = None,
) -> dict[_Label, dict[str, NodeTime]]:
    """`node_times` of several models that take the same feed, run in turns."""
    with tempfile.TemporaryDirectory() as folder:
        settings = config or SessionConfig()
        runners = [
            Runner(model, replace(settings, profile=Path(folder) / f"profile{number}"))
            for number, model in enumerate(models.values())
        ]

        def fresh() -> dict[str, Any]:
            for runner in runners:
                runner.run(feed)
            for start in range(0, runs, _TURN):
                for runner in runners:
                    for _ in range(min(_TURN, runs - start)):
                        runner.run(feed)
            return {
                str(number): _medians(json.loads(runner.end_profile().read_text(encoding="utf-8")))
                for number, runner in enumerate(runners)
            }

        key = ["profile", runs, shapes_of(feed), *(runner.digest for runner in runners)]
        found = (cache or TimingCache()).get(key, fresh)
    return {
        label: {name: NodeTime(*numbers) for name, numbers in found[str(number)].items()}
        for number, label in enumerate(models)
    }


def _medians(events: list[dict[str, Any]]) -> dict[str, Any]:
    """Operator, median seconds and noise of each node of a trace."""
    ops: dict[str, str] = {}
    times: dict[str, list[float]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith(_KERNEL):
            name = event["name"].removesuffix(_KERNEL)
            ops.setdefault(name, event["args"].get("op_name", ""))
            times[name].append(event["dur"] * 1e-6)
    found = {}
    for name, op in ops.items():
        low, middle, high = np.quantile(times[name][1:] or times[name], [0.25, 0.5, 0.75])
        found[name] = (op, float(middle), float(high - low) / 2)
    return found
