"""Bounds of dynamic inputs, for the optimization profile: smallest, usual and largest shape of each.

    --shape x=1x3x32x32:8x3x32x32:32x3x32x32   an input
    --shape batch=1:8:32                       a dimension, in every input that has it

A dynamic dimension that nobody bounds takes what the samples show: smallest, first, largest; without samples it is 1.
The first dimension of an input is taken for a batch, and goes from 1 to `BATCH` at least.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from qcompiler import ir
from qcompiler.data import Source
from qcompiler.errors import UsageError

Shape = tuple[int, ...]
Bounds = tuple[Shape, Shape, Shape]
LOOKED_AT = 64
BATCH = 8
EXAMPLE = "for instance x=1x3x32x32:8x3x32x32:32x3x32x32, or batch=1:8:32"


def profile(model: ir.Model, ranges: Mapping[str, str], samples: Source | None) -> tuple[dict[str, Bounds], list[str]]:
    """Bounds by input, for those that are dynamic, and notes on what nobody bounded.

    Raises:
        UsageError: a range fits no input.
    """
    dynamic = {t.name: list(t.shape) for t in model.inputs if t.shape is not None and not all(map(fixed, t.shape))}
    symbols = {d for shape in dynamic.values() for d in shape if isinstance(d, str)}
    given = {name: parsed(name, text) for name, text in ranges.items()}
    for name, bounds in given.items():
        if name not in dynamic and name not in symbols:
            known = ", ".join(map(str, [*dynamic, *sorted(symbols)]))
            hint = f"dynamic are: {known}" if known else "the model has no dynamic input"
            raise UsageError("bounds no dynamic input and no dynamic dimension", where=f"--shape {name}", hint=hint)
        if name in dynamic and any(len(shape) != len(dynamic[name]) for shape in bounds):
            raise UsageError(f"the input has {len(dynamic[name])} dimensions", where=f"--shape {name}", hint=EXAMPLE)
        if name not in dynamic and any(len(shape) != 1 for shape in bounds):
            raise UsageError("a dimension has numbers for bounds", where=f"--shape {name}", hint=EXAMPLE)
    seen = observed(dynamic, samples)
    free: dict[str | tuple[str, int], tuple[int, int, int]] = {}
    found: dict[str, Bounds] = {}
    for name, shape in dynamic.items():
        if name not in given:
            places = [(d, place) for place, d in enumerate(shape) if not fixed(d) and d not in given]
            for d, place in places:
                sizes = [sample[place] for sample in seen.get(name, ())] or [1]
                most = max(*sizes, BATCH) if place == 0 else max(sizes)
                free.setdefault(d or (name, place), (1 if place == 0 else min(sizes), sizes[0], most))
    for name, shape in dynamic.items():
        columns: list[Shape] = []
        for place, d in enumerate(shape if name not in given else ()):
            if fixed(d):
                columns.append((d, d, d))
            elif d in given:
                columns.append(tuple(bound[0] for bound in given[d]))
            else:
                columns.append(free[d or (name, place)])
        found[name] = given[name] if name in given else _rows(columns)
    guessed = [
        f"{d if isinstance(d, str) else f'dimension {d[1]} of {d[0]!r}'} from {low} to {high}"
        for d, (low, _, high) in free.items()
    ]
    return found, [f"nobody bounds {', '.join(guessed)}: built for that; give --shape"] if guessed else []


def _rows(columns: Sequence[Sequence[int]]) -> Bounds:
    """Smallest, usual and largest shape from bounds of each dimension."""
    low, usual, high = (tuple(column[i] for column in columns) for i in range(3))
    return low, usual, high


def fixed(dimension: object) -> bool:
    """Whether a dimension is a number."""
    return isinstance(dimension, int) and dimension > 0


def parsed(name: str, text: str) -> Bounds:
    """ "1x3:2x3:4x3" as three shapes.

    Raises:
        UsageError: it is not that, or the sizes do not ascend from 0.
    """
    try:
        low, usual, high = (tuple(int(d) for d in part.split("x")) for part in text.split(":"))
    except ValueError as error:
        raise UsageError(f"{text!r} is not min:opt:max", where=f"--shape {name}", hint=EXAMPLE) from error
    ascending = len(low) == len(usual) == len(high) and all(
        0 <= a <= b <= c for a, b, c in zip(low, usual, high, strict=True)
    )
    if not ascending:
        raise UsageError(f"{text!r} does not ascend", where=f"--shape {name}", hint=EXAMPLE)
    return low, usual, high


def observed(dynamic: Mapping[str, Sequence[object]], samples: Source | None) -> dict[str, list[Shape]]:
    """The shapes of dynamic inputs in the first samples."""
    found: dict[str, list[Shape]] = {}
    for sample in itertools.islice(iter(samples), LOOKED_AT) if samples is not None and dynamic else ():
        for name in dynamic:
            if name in sample.feed:
                found.setdefault(name, []).append(tuple(sample.feed[name].shape))
    return found
