"""Whether two models compute the same function: both are run, with graph optimisation off, and compared.

Every rewrite that must not change what a model computes is checked by this before it is kept. A tool that trusted its
algebra instead took a grouped network from 79 to 0 points, by equalization through an Add.

The inputs are those of a sample, or, where there is none, seeded normal numbers (integers: 0 and 1), which say nothing
about accuracy and as much as any about equality.

Two outputs are the same if they differ by no more than rounding. Where they differ by more, the first model is run
again, once on the same inputs and once on inputs that are off by some last digits: what moves by itself (random
numbers), or by as much as that (a rank among near ties, a code at the edge), says nothing about the rewrite.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import ml_dtypes
import numpy as np
import numpy.typing as npt

from qcompiler import ir
from qcompiler.analysis.inputs import agreeing, inputs_of
from qcompiler.analysis.run import Runner, SessionConfig, is_float
from qcompiler.errors import QCompilerError

Feed = Mapping[str, npt.NDArray[Any]]
Values = Mapping[str, Any]

# Largest difference beside the largest value. Sums in another order differ by 1e-5; rules know constants that were
# written short (0.16667 for 1/6, which moves MobileNetV3 by 1.6e-4); other functions differ by more.
ROUNDING = 1e-3
# The same where a model computes in shorter floats, in units of their last place.
UNITS = 32
PLACES = {np.dtype(np.float16): 2.0**-10, np.dtype(ml_dtypes.bfloat16): 2.0**-7}
# How far inputs are moved, and how much more than by that outputs may move.
NUDGE, SLACK = 2.0**-21, 4.0
# What open dimensions are tried as, the first alone: most models want 1 there. Whichever runs is taken.
SIZES = ((1, 32), (1, 8), (1, 64), (1, 128), (1, 224), (1, 1))


@dataclass(eq=False)
class SameFunction:
    """Compares models on one feed; what a model gave is remembered.

    Attributes:
        feed: inputs; None makes some up.
        note: why nothing can be compared; empty while it can.
    """

    feed: Feed | None = None
    note: str = ""
    _seen: WeakKeyDictionary[ir.Model, Values] = field(default_factory=WeakKeyDictionary)

    def difference(self, before: ir.Model, after: ir.Model) -> str | None:
        """Why a rewritten model is not the same function; None where it is, or where `note` says why that is open."""
        wanted = self._wanted(before, after)
        if wanted is None or self.feed is None:
            return None
        try:
            got = self._seen[after] = run(after, self.feed)
        except QCompilerError as error:
            return f"the rewritten model cannot be run: {error}"
        close = rounding(before)
        if not any(apart(name, value, got.get(name), close) for name, value in wanted.items()):
            return None
        again, moved = run(before, self.feed), run(before, nudged(self.feed))
        for name, value in wanted.items():
            if apart(name, value, again[name], close) is None:
                reason = apart(name, value, got.get(name), max(close, SLACK * moves(value, moved[name])))
                if reason is not None:
                    return reason
        return None

    def _wanted(self, before: ir.Model, after: ir.Model) -> Values | None:
        """What the first model gives; the second says what dimensions were fixed."""
        if self.note or before in self._seen:
            return self._seen.get(before)
        said = ""
        for feed in [self.feed] if self.feed is not None else made_up(after):
            try:
                self._seen[before] = run(before, feed)
            except QCompilerError as error:
                said = said or str(error)
                continue
            self.feed = feed
            return self._seen[before]
        self.note = f"rewrites could not be compared with the model as it was: {said}"
        return None


def run(model: ir.Model, feed: Feed) -> Values:
    """The outputs, computed node by node."""
    return Runner(model, SessionConfig("off")).run(feed)


def rounding(model: ir.Model) -> float:
    """The largest difference, beside the largest value, that is no difference."""
    found = {np.dtype(t.dtype) for t in [*model.inputs, *model.constants()] if t.dtype is not None}
    return max([ROUNDING, *(UNITS * PLACES.get(dtype, 0.0) for dtype in found)])


def apart(name: str, wanted: Any, got: Any, close: float = ROUNDING) -> str | None:
    """Why two values of one output differ by more than `close` of the largest value."""
    if not isinstance(wanted, np.ndarray):
        return None if type(wanted) is type(got) else f"output {name!r} is of another kind"
    if not isinstance(got, np.ndarray) or got.shape != wanted.shape or got.dtype != wanted.dtype:
        return f"output {name!r} is of another kind"
    if close == np.inf:
        return None
    if not is_float(wanted) or not wanted.size:
        return None if np.array_equal(wanted, got) else f"output {name!r} differs"
    off, size = distance(wanted, got)
    if off == np.inf:
        return f"output {name!r} is not finite where it was, or the other way round"
    return None if off <= close * size else f"output {name!r} differs by {off:.3g} where values reach {size:.3g}"


def distance(wanted: npt.NDArray[Any], got: npt.NDArray[Any]) -> tuple[float, float]:
    """The largest difference of two float arrays, and the largest value; infinite where one alone is not finite."""
    first, second = wanted.astype(np.float64), got.astype(np.float64)
    finite = np.isfinite(first)
    if not np.array_equal(finite, np.isfinite(second)):
        return np.inf, 1.0
    return float(np.abs(first - second)[finite].max(initial=0.0)), float(np.abs(first[finite]).max(initial=0.0))


def moves(wanted: Any, moved: Any) -> float:
    """How far an output moves beside its largest value; infinite where that cannot be said, as of ranks that change."""
    if not isinstance(wanted, np.ndarray) or not isinstance(moved, np.ndarray) or moved.shape != wanted.shape:
        return np.inf
    if not is_float(wanted):
        return 0.0 if np.array_equal(wanted, moved) else np.inf
    off, size = distance(wanted, moved)
    return off / size if size else np.inf if off else 0.0


def nudged(feed: Feed) -> Feed:
    """The feed with every float a little off, up or down."""
    rng = np.random.default_rng(0)
    return {
        name: (values.astype(np.float64) * (1 + NUDGE * rng.choice([-1, 1], values.shape))).astype(values.dtype)
        if is_float(values) and values.dtype.itemsize >= 4
        else values
        for name, values in feed.items()
    }


def made_up(model: ir.Model) -> Iterator[Feed]:
    """Seeded numbers for every input that follows from no other, with several choices for open dimensions."""
    opened = any(not isinstance(size, int) for tensor in model.inputs for size in tensor.shape or ())
    for first, other in SIZES if opened else SIZES[:1]:
        rng = np.random.default_rng(0)
        feed: dict[str, npt.NDArray[Any]] = {}
        for tensor in model.inputs:
            shape = [s if isinstance(s, int) else other if i else first for i, s in enumerate(tensor.shape or ())]
            dtype = np.dtype(np.float32 if tensor.dtype is None else tensor.dtype)
            values = rng.integers(0, 2, shape) if dtype.kind in "iub" else rng.normal(size=shape)
            feed[tensor.name] = np.asarray(values).astype(dtype)
        yield agreeing(feed, inputs_of(model))
