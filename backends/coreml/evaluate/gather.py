"""Gather, scatter, search; an index outside of the input is an error, since Core ML defines nothing there."""

from __future__ import annotations

from typing import Any

import numpy as np

from qcompiler.backends.coreml.evaluate.table import Array, computes


@computes("gather")
def gather(x: Array, indices: Array, axis: Any = 0, batch_dims: Any = 0) -> Array:
    """Along one axis."""
    if int(batch_dims):
        batch = int(batch_dims)
        flat, index = x.reshape(-1, *x.shape[batch:]), indices.reshape(-1, *indices.shape[batch:])
        found = np.stack([a.take(i, axis=int(axis) - batch) for a, i in zip(flat, index, strict=True)])
        return found.reshape(*x.shape[:batch], *found.shape[1:])
    return np.take(x, inside(indices, x.shape[int(axis)]), axis=int(axis))


def inside(indices: Array, size: int) -> Array:
    """Indices as Core ML defines them; others are an error.

    Raises:
        ValueError: an index is negative or beyond the input.
    """
    if indices.size and (indices.min() < 0 or indices.max() >= size):
        raise ValueError(f"an index lies outside of 0..{size - 1}, where Core ML defines nothing")
    return indices.astype(np.int64)


@computes("gather_along_axis")
def gather_along_axis(x: Array, indices: Array, axis: Any = 0) -> Array:
    """One index for each value."""
    return np.take_along_axis(x, inside(indices, x.shape[int(axis)]), axis=int(axis))


def places(indices: Array, x: Array, batch: int = 0) -> tuple[Array, ...]:
    """Indices of several axes as numpy takes them."""
    wide = indices.shape[-1]
    return tuple(inside(indices[..., i], x.shape[batch + i]) for i in range(wide))


@computes("gather_nd")
def gather_nd(x: Array, indices: Array, batch_dims: Any = 0) -> Array:
    """Indices of several axes at once."""
    batch = int(batch_dims)
    if not batch:
        return np.asarray(x[places(indices, x)])
    flat, index = x.reshape(-1, *x.shape[batch:]), indices.reshape(-1, *indices.shape[batch:])
    found = np.stack([a[places(i, a)] for a, i in zip(flat, index, strict=True)])
    return found.reshape(*x.shape[:batch], *found.shape[1:])


def combined(data: Array, at: Any, updates: Array, mode: str) -> Array:
    """Updates put in."""
    found = data.copy()
    ufunc: Any = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "max": np.maximum,
                  "min": np.minimum}.get(mode)  # fmt: skip
    if ufunc is None:
        found[at] = updates
    else:
        ufunc.at(found, at, updates)
    return found


@computes("scatter")
def scatter(data: Array, indices: Array, updates: Array, axis: Any = 0, mode: str = "add") -> Array:
    """Along one axis."""
    moved = np.moveaxis(data, int(axis), 0)
    at = inside(indices, moved.shape[0])
    found = combined(moved, at, np.moveaxis(updates, int(axis), 0) if at.ndim == 1 else updates, mode)
    return np.moveaxis(found, 0, int(axis))


@computes("scatter_along_axis")
def scatter_along_axis(data: Array, indices: Array, updates: Array, axis: Any = 0, mode: str = "add") -> Array:
    """One index for each update."""
    at = list(np.indices(indices.shape))
    at[int(axis)] = inside(indices, data.shape[int(axis)])
    return combined(data, tuple(at), updates, mode)


@computes("scatter_nd")
def scatter_nd(data: Array, indices: Array, updates: Array, mode: str = "add") -> Array:
    """Indices of several axes at once."""
    return combined(data, places(indices, data), updates, mode)


@computes("topk")
def topk(
    x: Array, k: Any, axis: Any = -1, ascending: Any = False, return_indices: Any = True
) -> list[Array]:  # fmt: skip
    """Equal values in the order of their indices."""
    key = x if bool(ascending) else -x.astype(np.float64)
    order = np.argsort(key, axis=int(axis), kind="stable")
    count = x.shape[int(axis)] if int(k) == -1 else int(k)
    order = order.take(np.arange(count), axis=int(axis))
    values = np.take_along_axis(x, order, axis=int(axis))
    return [values, order] if return_indices is None or bool(return_indices) else [values]


@computes("argsort")
def argsort(x: Array, axis: Any = -1, ascending: Any = False) -> Array:
    """Equal values in the order of their indices."""
    return np.argsort(x if bool(ascending) else -x.astype(np.float64), axis=int(axis), kind="stable")


@computes("cumsum")
def cumsum(x: Array, axis: Any = 0, exclusive: Any = False, reverse: Any = False) -> Array:
    """Of all before, too."""
    at = int(axis)
    y = np.flip(x, at) if bool(reverse) else x
    found = np.cumsum(y, axis=at, dtype=y.dtype)
    if bool(exclusive):
        found = found - y
    return np.flip(found, at) if bool(reverse) else found


@computes("one_hot")
def one_hot(indices: Array, one_hot_vector_size: Any, axis: Any = -1, on_value: Any = 1, off_value: Any = 0) -> Array:
    """on_value at the index."""
    depth, at = int(one_hot_vector_size), int(axis) % (indices.ndim + 1)
    hit = np.expand_dims(indices, at) == np.arange(depth).reshape(
        [-1 if i == at else 1 for i in range(indices.ndim + 1)]
    )
    return np.where(hit, on_value, off_value)


@computes("non_zero")
def non_zero(x: Array) -> Array:
    """Indices as rows."""
    return np.stack(np.nonzero(x), axis=1)
