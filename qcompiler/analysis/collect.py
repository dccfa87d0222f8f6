"""Collects statistics of tensors: one stream through ONNX Runtime, every value counted, memory bounded.

    samples -> ONNX Runtime with the tensors as outputs (one thread) -> finite? -> accumulators (one more) -> Stats

While one sample is counted the next is computed, so two samples' tensors are alive at a time. Counts and extremes do
not depend on that: the statistics are the same bytes in every run and for every memory budget.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from qcompiler import ir
from qcompiler.analysis.fingerprint import fingerprint
from qcompiler.analysis.kinds import F32, Accumulator, Kind
from qcompiler.analysis.run import SessionConfig, is_float
from qcompiler.analysis.stats import Stats, TensorStats, common_shape
from qcompiler.analysis.tap import Array, Complete, Seen, Tap, known_count
from qcompiler.data import Sample
from qcompiler.errors import DataError

Progress = Callable[[int, int | None], None]
"""Called with the number of samples done and the number in all, None if that is not known."""

# A table of 65536 32-bit counts, the usual state of a tensor under observation.
_STATE = 1 << 18
# Bytes of tensors worth a change of threads.
_HAND_OVER = 1 << 20
_NEVER = "its branch was not taken by any sample"
_NOT_FLOAT = "it does not hold floating-point numbers"


def collect(
    model: ir.Model,
    source: Iterable[Sample],
    wanted: Mapping[str, Iterable[Kind]],
    *,
    memory_budget: int = 512 << 20,
    progress: Progress | None = None,
    config: SessionConfig | None = None,
) -> Stats:
    """The statistics of `wanted` tensors over all samples.

    Args:
        model: the graph to observe; left alone.
        source: samples; read once, or several times if the tensors of one sample exceed the budget.
        wanted: kinds of statistics for each tensor: inputs of the model and anything a node gives.
        memory_budget: bytes for observed tensors and their statistics.
        progress: called after every sample.
        config: session settings.

    Returns:
        Statistics by tensor. Tensors that cannot be observed (inside loops), do not hold floats, or whose branch was
        never taken are in `unseen`, with the reason.

    Raises:
        DataError: a tensor holds NaN or infinity (the message names the first such tensor, in topological order, of the
            first such sample), there are no samples, or the model cannot run on one.
        ModelError: ONNX Runtime cannot load the model.
    """
    kinds = {name: tuple(dict.fromkeys(some)) for name, some in wanted.items()}
    # Two samples are alive at a time.
    tap = Tap(model, source, kinds, memory_budget // 2, _STATE // 2, config or SessionConfig())
    total = known_count(source)
    done: dict[str, TensorStats] = {}
    unseen = dict(tap.refused)
    samples = read = 0
    with _Counting(kinds) as counting:
        for event in tap:
            if isinstance(event, Seen):
                counting.add(event)
                read += 1
                if progress is not None:
                    progress(read, total if tap.whole else None)
                continue
            counting.drain()
            states = {name: counting.states.pop(name, None) for name in event.names}
            if isinstance(event, Complete):
                samples = event.samples
                for name, state in states.items():
                    if state is None:
                        unseen[name] = counting.skipped.get(name, _NEVER)
                    else:
                        done[name] = state.finish()
    return Stats(fingerprint(model), samples, dict(sorted(done.items())), dict(sorted(unseen.items())))


@dataclass(eq=False)
class _State:
    """A tensor under observation."""

    accumulators: dict[Kind, Accumulator]
    shape: tuple[int | None, ...] | None
    elements: int = 0

    def finish(self) -> TensorStats:
        packed = {kind: kind.pack(accumulator.finish()) for kind, accumulator in self.accumulators.items()}
        return TensorStats(self.shape, self.elements, packed)


class _Counting:
    """Counts samples on a thread of its own, in their order, while the caller computes the next.

    Small samples are handed over several at a time, since handing over takes as long as running a tiny model.
    """

    def __init__(self, kinds: Mapping[str, tuple[Kind, ...]]) -> None:
        self.states: dict[str, _State] = {}
        self.skipped: dict[str, str] = {}
        self._kinds = kinds
        self._pool = ThreadPoolExecutor(1, "collect")
        self._waiting: list[Seen] = []
        self._bytes = 0
        self._running: Future[None] | None = None

    def __enter__(self) -> _Counting:
        return self

    def __exit__(self, *error: object) -> None:
        # A fault in the data of an earlier sample is raised before whatever went wrong with a later one.
        try:
            self.drain()
        finally:
            self._pool.shutdown()

    def add(self, seen: Seen) -> None:
        """Counts the tensors of a sample, now or later; raises what was wrong with earlier ones."""
        self._waiting.append(seen)
        self._bytes += sum(value.nbytes for value in seen.values.values() if isinstance(value, np.ndarray))
        if self._bytes >= _HAND_OVER:
            self._hand_over()

    def drain(self) -> None:
        """Counts everything that was added."""
        self._hand_over()
        self._wait()

    def _hand_over(self) -> None:
        self._wait()
        self._running = self._pool.submit(self._count, self._waiting)
        self._waiting, self._bytes = [], 0

    def _wait(self) -> None:
        running, self._running = self._running, None
        if running is not None:
            running.result()

    def _count(self, samples: list[Seen]) -> None:
        for seen in samples:
            for name, value in seen.values.items():
                if not is_float(value):
                    self.skipped[name] = _NOT_FLOAT
                elif value.size:
                    self._add(name, value, seen.sample.name)

    def _add(self, name: str, array: Array, sample: str) -> None:
        values: F32 = array if array.dtype == np.float32 and array.flags.c_contiguous else _float32(array)
        low, high = float(np.minimum.reduce(values, axis=None)), float(np.maximum.reduce(values, axis=None))
        # NaN runs through both, infinity ends up in one of them.
        if not -np.inf < low <= high < np.inf:
            raise _not_finite(name, values, sample)
        state = self.states.get(name)
        if state is None:
            state = self.states[name] = _State({kind: kind.start() for kind in self._kinds[name]}, values.shape)
        elif state.shape != values.shape:
            state.shape = common_shape(state.shape, values.shape)
        state.elements = max(state.elements, values.size)
        for accumulator in state.accumulators.values():
            accumulator.add(values, low, high)


def _float32(array: Array) -> F32:
    with np.errstate(over="ignore"):
        return np.asarray(array, np.float32, order="C")


def _not_finite(name: str, values: Array, sample: str) -> DataError:
    nans = int(np.count_nonzero(np.isnan(values)))
    what = f"{nans} NaN" if nans else f"{int(np.count_nonzero(np.isinf(values)))} infinite values"
    return DataError(
        f"tensor {name!r} holds {what} among {values.size} values",
        where=sample,
        hint="it is the first observed tensor that does; leave the sample out, or keep the part of the model in float",
    )
