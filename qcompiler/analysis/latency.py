"""Times models against each other in one process (docs: ONNX Runtime fact sheet, measuring).

Runs come in blocks that alternate between the models: within a block a model has warm caches, as in use; between blocks
whatever else the machine does hits all models alike. The order of the models turns round from block to block, so a slow
drift cancels. Two models are compared block by block by the fastest run of each, since what disturbs a run only ever
adds time; how much those ratios scatter is the noise of the comparison. Medians are what is reported as latency.

Times are for people and for decisions between artefacts; they are written to no file that is compared byte for byte.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompiler.analysis.run import Runner
from qcompiler.analysis.timing_cache import TimingCache, shapes_of
from qcompiler.errors import DataError

Feed = Mapping[str, npt.NDArray[Any]]

_LONGEST_BLOCK = 40
_FEWEST_BLOCKS = 3


@dataclass(frozen=True, eq=False)
class Timing:
    """The times of one model.

    Attributes:
        times: seconds, float64, one row per block.
        parts: the timings that these times are the geometric mean of, see `measure_each`.
    """

    times: npt.NDArray[np.float64]
    parts: tuple[Timing, ...] = ()

    @property
    def min_ms(self) -> float:
        """Fastest run."""
        return float(self.times.min()) * 1e3

    @property
    def median_ms(self) -> float:
        """Median run."""
        return float(np.median(self.times)) * 1e3

    @property
    def blocks_ms(self) -> npt.NDArray[np.float64]:
        """Median of each block."""
        return np.asarray(np.median(self.times, axis=1)) * 1e3

    @property
    def floors_ms(self) -> npt.NDArray[np.float64]:
        """Fastest run of each block."""
        return np.asarray(self.times.min(axis=1)) * 1e3

    @property
    def spread(self) -> float:
        """Half the distance between the quartiles of the block medians, relative to the median."""
        low, high = np.quantile(self.blocks_ms, (0.25, 0.75))
        return float(high - low) / 2 / self.median_ms


@dataclass(frozen=True)
class Speedup:
    """One model's speed over another's.

    Attributes:
        ratio: fastest run of the first over that of the second, median of the blocks; over 1 the second is faster.
        noise: half the distance between the quartiles of the blocks' ratios, at least half a percent.
    """

    ratio: float
    noise: float

    @property
    def slower(self) -> bool:
        """Whether the second is slower than the first by more than noise explains (twice the noise)."""
        return self.ratio < 1 - 2 * self.noise

    @property
    def faster(self) -> bool:
        """Whether the second is faster than the first by more than noise explains."""
        return self.ratio > 1 + 2 * self.noise


def speedup(first: Timing, second: Timing) -> Speedup:
    """How much faster `second` is than `first`; both from one call of `measure`."""
    ratios = first.floors_ms / second.floors_ms
    low, high = np.quantile(ratios, (0.25, 0.75))
    return Speedup(float(np.median(ratios)), max(float(high - low) / 2, 0.005))


def measure(
    models: Mapping[str, Runner],
    feeds: Sequence[Feed],
    *,
    blocks: int = 10,
    seconds: float = 3.0,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Timing]:
    """Times every model on the same feeds.

    Args:
        models: ready to run, with the same inputs.
        feeds: taken in turn, starting again with every block; their number should be small.
        blocks: blocks per model; fewer, down to three, where single runs are so slow that the time would be exceeded.
        seconds: time for each model, about. A block is cut so that all blocks fit, to 40 runs at most.
        clock: what tells the time.

    Raises:
        DataError: there are no feeds, or a model cannot run on one.
    """
    if not feeds:
        raise DataError("no samples to time the models on")
    once = {name: _warm(runner, feeds, clock) for name, runner in models.items()}
    slowest = max(once.values(), default=0.0)
    rounds = max(_FEWEST_BLOCKS, min(blocks, _times(slowest, seconds)))
    runs = {name: max(1, min(_LONGEST_BLOCK, _times(one, seconds / rounds))) for name, one in once.items()}
    times: dict[str, list[list[float]]] = {name: [] for name in models}
    forth = list(models)
    for number in range(rounds):
        for name in forth if number % 2 == 0 else forth[::-1]:
            times[name].append(_block(models[name], feeds, runs[name], clock))
    return {name: Timing(np.array(block)) for name, block in times.items()}


def measure_each(
    models: Mapping[str, Runner],
    feeds: Sequence[Feed],
    *,
    blocks: int = 10,
    seconds: float = 3.0,
    cache: TimingCache | None = None,
) -> dict[str, Timing]:
    """Times every model on each feed alone, as for `measure`; `seconds` are for all feeds together.

    What `cache` remembers of the same models and feeds is not measured again.

    With several feeds the result is their geometric mean, so that the speed-up of two models is the geometric mean of
    their speed-ups, and no feed counts for more because it takes longer.
    """

    def times(feed: Feed) -> dict[str, Timing]:
        def fresh() -> dict[str, object]:
            timings = measure(models, [feed], blocks=blocks, seconds=seconds / len(feeds))
            return {name: timing.times.tolist() for name, timing in timings.items()}

        key = [seconds / len(feeds), blocks, shapes_of(feed), *(f"{name} {models[name].digest}" for name in models)]
        return {name: Timing(np.array(rows)) for name, rows in (cache or TimingCache()).get(key, fresh).items()}

    each = [times(feed) for feed in feeds]
    if len(each) == 1:
        return each[0]
    return {name: together([timings[name] for timings in each]) for name in models}


def together(parts: Sequence[Timing]) -> Timing:
    """The geometric mean of timings, block by block: fastest runs with fastest runs, medians with medians."""
    blocks = min(part.times.shape[0] for part in parts)
    runs = min(part.times.shape[1] for part in parts)
    at = np.linspace(0, 1, runs)
    quantiles = [np.quantile(part.times[:blocks], at, axis=1).T for part in parts]
    return Timing(np.exp(np.mean(np.log(quantiles), axis=0)), tuple(parts))


def _times(one: float, seconds: float) -> int:
    """How many runs of `one` second each fit."""
    return int(seconds / max(one, 1e-9) + 1e-6)


def _warm(runner: Runner, feeds: Sequence[Feed], clock: Callable[[], float]) -> float:
    """Seconds of a run, after a first one that allocates."""
    runner.run(feeds[0])
    start = clock()
    runner.run(feeds[0])
    return clock() - start


def _block(runner: Runner, feeds: Sequence[Feed], runs: int, clock: Callable[[], float]) -> list[float]:
    """Seconds of each run; one run before the first brings the model into the caches and is not counted."""
    runner.run(feeds[-1])
    times = []
    for number in range(runs):
        feed = feeds[number % len(feeds)]
        start = clock()
        runner.run(feed)
        times.append(clock() - start)
    return times
