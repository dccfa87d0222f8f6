"""The inputs that latency is measured on, one for each shape that a user names.

    "batch=8,seq=128"      dimensions of the model by name
    "input_ids=1x128"      a whole input; `?` leaves a dimension; its named dimensions hold for the other inputs, too
    nothing                the first sample as it is

Values come from the first sample: repeated where a dimension is larger, cut where it is smaller, so that indices and
masks stay what the model can read. Without data there are ones. A dimension that nothing fixes is that of the sample,
or 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompiler.data import InputInfo
from qcompiler.errors import UsageError
from qcompiler.passes.prepare.override_shapes import parse_shape
from qcompiler.search.judge import FeedArrays, synthetic_feed

OPTION = "--bench-shape"

Dims = list[int | str | None]


def bench_feeds(inputs: Sequence[InputInfo], shapes: Sequence[str], sample: FeedArrays | None) -> list[FeedArrays]:
    """One feed for each shape; the sample itself, or ones, where there is no shape.

    Raises:
        UsageError: a shape is not one, or contradicts the model or itself.
    """
    if not shapes:
        return [synthetic_feed(inputs) if sample is None else sample]
    return [feed(inputs, wanted(inputs, text, sample), sample) for text in shapes]


def wanted(inputs: Sequence[InputInfo], text: str, sample: FeedArrays | None) -> dict[str, tuple[int, ...]]:
    """The shape of every input.

    Raises:
        UsageError: see `bench_feeds`.
    """
    known = {info.name: info for info in inputs}
    named = {d for info in inputs for d in info.shape or () if isinstance(d, str)}
    dims: dict[str, Dims] = {info.name: dims_of(info, sample) for info in inputs}
    numbers: dict[str, int] = {}
    for part in text.split(","):
        try:
            name, values = parse_shape(part.strip())
        except UsageError as error:
            raise UsageError(error.what, where=OPTION, hint=error.hint) from error
        if name in known:
            dims[name] = fixed(known[name], dims[name], values, numbers)
        elif name in named and len(values) == 1 and values[0]:
            bind(numbers, name, values[0])
        else:
            hint = f"inputs: {', '.join(known)}; dynamic dimensions: {', '.join(sorted(named)) or 'none'}"
            raise UsageError(f"{name!r} is neither an input nor a dynamic dimension", where=OPTION, hint=hint)
    return {name: concrete(name, dims[name], numbers, sample) for name in known}


def dims_of(info: InputInfo, sample: FeedArrays | None) -> Dims:
    """The dimensions that the model states; of an input of unknown rank as many as the sample has."""
    if info.shape is not None:
        return list(info.shape)
    return [None] * (0 if sample is None else sample[info.name].ndim)


def fixed(info: InputInfo, dims: Dims, values: tuple[int, ...], numbers: dict[str, int]) -> Dims:
    """The dimensions of an input with the given ones in place; its named ones are bound."""
    if len(values) != len(dims):
        have = "x".join(map(str, dims)) or "no dimensions"
        raise UsageError(f"{info.name!r} has {have}, not {len(values)} dimensions", where=OPTION)
    for axis, (old, new) in enumerate(zip(dims, values, strict=True)):
        if new and isinstance(old, int) and old != new:
            what = f"dimension {axis} of {info.name!r} is {old} in the model and cannot be {new}"
            raise UsageError(what, where=OPTION)
        if new and isinstance(old, str):
            bind(numbers, old, new)
    return [new or old for old, new in zip(dims, values, strict=True)]


def bind(numbers: dict[str, int], name: str, value: int) -> None:
    """Gives a named dimension its number."""
    if numbers.setdefault(name, value) != value:
        raise UsageError(f"dimension {name!r} is given as {numbers[name]} and as {value}", where=OPTION)


def concrete(name: str, dims: Dims, numbers: dict[str, int], sample: FeedArrays | None) -> tuple[int, ...]:
    """Numbers for all dimensions of an input."""
    seen = (1,) * len(dims) if sample is None else sample[name].shape
    return tuple(d if isinstance(d, int) else numbers.get(d or "", size) for d, size in zip(dims, seen, strict=True))


def feed(inputs: Sequence[InputInfo], shapes: dict[str, tuple[int, ...]], sample: FeedArrays | None) -> FeedArrays:
    """Values of these shapes."""
    if sample is None:
        return {info.name: np.ones(shapes[info.name], info.dtype) for info in inputs}
    return {info.name: resized(sample[info.name], shapes[info.name]) for info in inputs}


def resized(values: npt.NDArray[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """`values` repeated or cut along each axis; ones where there is nothing to repeat."""
    if values.size == 0:
        return np.ones(shape, values.dtype)
    for axis, size in enumerate(shape):
        if values.shape[axis] != size:
            values = np.take(values, np.arange(size) % values.shape[axis], axis=axis)
    return np.ascontiguousarray(values) if values.ndim else values
