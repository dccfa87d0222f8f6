"""Whether two models compute the same function: both are run, with graph optimisation off, and compared.

Every rewrite that must not change what a model computes is checked by this before it is kept. A tool that trusted its
algebra instead took a grouped network from 79 to 0 points, by equalization through an Add.

The inputs are those of a sample, or, where there is none, seeded normal numbers (integers: 0 and 1), which say nothing
about accuracy and as much as any about equality.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompiler import ir
from qcompiler.analysis import Runner, SessionConfig
from qcompiler.analysis.run import is_float
from qcompiler.errors import QCompilerError

Feed = Mapping[str, npt.NDArray[Any]]

# Largest difference beside the largest value: sums in another order differ by less, other functions by more.
ROUNDING = 1e-4


def difference(before: ir.Model, after: ir.Model, feed: Feed | None = None) -> str | None:
    """Why a rewritten model is not the same function; None where it is."""
    given = made_up(before) if feed is None else feed
    config = SessionConfig("off")
    try:
        wanted, got = (Runner(model, config).run(given) for model in (before, after))
    except QCompilerError as error:
        return f"the rewritten model could not be compared: {error}"
    for name, value in wanted.items():
        reason = apart(name, value, got.get(name))
        if reason is not None:
            return reason
    return None


def apart(name: str, wanted: Any, got: Any) -> str | None:
    """Why two values of one output differ by more than rounding."""
    if not isinstance(wanted, np.ndarray):
        return None if type(wanted) is type(got) else f"output {name!r} is of another kind"
    if not isinstance(got, np.ndarray) or got.shape != wanted.shape or got.dtype != wanted.dtype:
        return f"output {name!r} is of another kind"
    if not is_float(wanted) or not wanted.size:
        return None if np.array_equal(wanted, got) else f"output {name!r} differs"
    finite = np.isfinite(wanted)
    if not np.array_equal(finite, np.isfinite(got)):
        return f"output {name!r} is not finite where it was, or the other way round"
    first, second = wanted[finite].astype(np.float64), got[finite].astype(np.float64)
    off, size = np.abs(first - second).max(initial=0.0), np.abs(first).max(initial=0.0)
    return None if off <= ROUNDING * size else f"output {name!r} differs by {off:.3g} where values reach {size:.3g}"


def made_up(model: ir.Model) -> Feed:
    """Seeded numbers for every input; unknown dimensions are 1."""
    rng = np.random.default_rng(0)
    feed: dict[str, npt.NDArray[Any]] = {}
    for tensor in model.inputs:
        shape = [size if isinstance(size, int) else 1 for size in tensor.shape or ()]
        dtype = np.dtype(np.float32 if tensor.dtype is None else tensor.dtype)
        values = rng.normal(size=shape) if dtype.kind == "f" else rng.integers(0, 2, shape)
        feed[tensor.name] = values.astype(dtype)
    return feed
