"""Collects statistics of tensors: one stream through ONNX Runtime, every value counted, memory bounded.

    samples -> ONNX Runtime with the tensors as outputs (one thread) -> finite? -> accumulators (one more) -> Stats

While one sample is counted the next is computed, so two samples' tensors are alive at a time. Counts and extremes do
not depend on that: the statistics are the same bytes in every run and for every memory budget.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from qcompiler import ir
from qcompiler.analysis.fingerprint import fingerprint
from qcompiler.analysis.kinds import F32, Accumulator, Kind
from qcompiler.analysis.run import SessionConfig, is_float
from qcompiler.analysis.stats import Stats, TensorStats, common_shape
from qcompiler.analysis.tap import Array, Complete, Seen, Shed, Tap
from qcompiler.data import Sample
from qcompiler.errors import DataError

Progress = Callable[[int, int | None], None]
"""Called with the number of samples done and the number in all, None if that is not known."""

# A table of 65536 32-bit counts, the usual state of a tensor under observation.
_STATE = 1 << 18
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
    total = getattr(source, "count", None)
    states: dict[str, _State] = {}
    done: dict[str, TensorStats] = {}
    unseen = dict(tap.refused)
    samples = read = 0
    with ThreadPoolExecutor(1, "collect") as pool:
        pending: Future[None] | None = None
        try:
            for event in tap:
                if pending is not None:
                    pending.result()
                    pending = None
                if isinstance(event, Seen):
                    pending = pool.submit(_add, states, kinds, event, unseen)
                    read += 1
                    if progress is not None:
                        progress(read, total if tap.whole else None)
                elif isinstance(event, Shed):
                    for name in event.names:
                        states.pop(name, None)
                else:
                    samples = event.samples
                    _close(event, states, done, unseen)
        finally:
            # An error of an earlier sample comes before one of a later sample.
            if pending is not None:
                pending.result()
    return Stats(fingerprint(model), samples, dict(sorted(done.items())), dict(sorted(unseen.items())))


@dataclass(eq=False)
class _State:
    """A tensor under observation."""

    shape: tuple[int | None, ...] | None
    elements: int = 0
    accumulators: dict[Kind, Accumulator] = field(default_factory=dict)


def _add(states: dict[str, _State], kinds: Mapping[str, tuple[Kind, ...]], seen: Seen, unseen: dict[str, str]) -> None:
    """Adds the tensors of one sample."""
    for name, array in seen.values.items():
        if not is_float(array):
            unseen[name] = _NOT_FLOAT
            continue
        if array.size == 0:
            continue
        values: F32 = array if array.dtype == np.float32 and array.flags.c_contiguous else _float32(array)
        low, high = float(np.minimum.reduce(values, axis=None)), float(np.maximum.reduce(values, axis=None))
        # NaN runs through both, infinity ends up in one of them.
        if not -np.inf < low <= high < np.inf:
            raise _not_finite(name, values, seen.sample.name)
        state = states.get(name)
        if state is None:
            state = states[name] = _State(values.shape, 0, {kind: kind.start() for kind in kinds[name]})
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


def _close(event: Complete, states: dict[str, _State], done: dict[str, TensorStats], unseen: dict[str, str]) -> None:
    """Packs what all samples have been seen of, and frees its tables."""
    for name in event.names:
        state = states.pop(name, None)
        if state is None:
            unseen.setdefault(name, _NEVER)
            continue
        packed = {kind: kind.pack(accumulator.finish()) for kind, accumulator in state.accumulators.items()}
        done[name] = TensorStats(state.shape, state.elements, packed)
