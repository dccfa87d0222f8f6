"""Operations that move values: shapes, slices, pads, blocks of pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from qcompiler.backends.coreml.evaluate.table import Array, computes, ints


@computes("reshape")
def reshape(x: Array, shape: Any) -> Array:
    """0 copies a dimension, -1 is what is left."""
    wanted = [x.shape[i] if n == 0 else n for i, n in enumerate(ints(shape))]
    return x.reshape(wanted)


@computes("reshape_like")
def reshape_like(x: Array, ref_tensors: Sequence[Array], begins: Any, ends: Any, end_masks: Any) -> Array:
    """Dimensions out of others' shapes."""
    found: list[int] = []
    for ref, begin, end, mask in zip(ref_tensors, ints(begins), ints(ends), np.atleast_1d(end_masks), strict=True):
        found += ref.shape[begin : None if mask else end]
    return x.reshape(found)


@computes("flatten2d")
def flatten2d(x: Array, axis: Any) -> Array:
    """Two dimensions, split at an axis."""
    return x.reshape(int(np.prod(x.shape[: int(axis)])), -1)


@computes("squeeze")
def squeeze(x: Array, axes: Any = None) -> Array:
    """Without dimensions of 1."""
    return np.squeeze(x, None if axes is None else ints(axes))


@computes("expand_dims")
def expand_dims(x: Array, axes: Any) -> Array:
    """With dimensions of 1."""
    return np.expand_dims(x, ints(axes))


@computes("transpose")
def transpose(x: Array, perm: Any) -> Array:
    """Axes in another order."""
    return x.transpose(ints(perm))


@computes("concat")
def concat(values: Sequence[Array], axis: Any, interleave: Any = False) -> Array:
    """Along an axis, or interleaved."""
    if bool(interleave):
        stacked = np.stack(values, axis=int(axis) + 1)
        return stacked.reshape([n * len(values) if i == int(axis) else n for i, n in enumerate(values[0].shape)])
    return np.concatenate(values, axis=int(axis))


@computes("stack")
def stack(values: Sequence[Array], axis: Any) -> Array:
    """Along a new axis."""
    return np.stack(values, axis=int(axis))


@computes("split")
def split(x: Array, axis: Any, num_splits: Any = None, split_sizes: Any = None) -> list[Array]:
    """Parts along an axis."""
    if split_sizes is None:
        return np.split(x, int(num_splits), axis=int(axis))
    return np.split(x, np.cumsum(ints(split_sizes))[:-1].tolist(), axis=int(axis))


@computes("tile")
def tile(x: Array, reps: Any) -> Array:
    """Repeated."""
    return np.tile(x, ints(reps))


@computes("fill")
def fill(shape: Any, value: Any) -> Array:
    """One value everywhere."""
    return np.full(ints(shape), value)


@computes("fill_like")
def fill_like(ref_tensor: Array, value: Any) -> Array:
    """One value everywhere."""
    return np.full(ref_tensor.shape, value)


@computes("shape")
def shape(x: Array) -> Array:
    """The shape."""
    return np.array(x.shape, np.int32)


@computes("range_1d")
def range_1d(start: Any, end: Any, step: Any) -> Array:
    """start, start + step, ... before end"""
    return np.arange(start, end, step)


@computes("reverse")
def reverse(x: Array, axes: Any = None) -> Array:
    """Backwards."""
    return np.flip(x, None if axes is None else ints(axes))


@computes("reverse_sequence")
def reverse_sequence(x: Array, lengths: Array, seq_axis: Any, batch_axis: Any) -> Array:
    """The first values of each batch backwards."""
    found = np.moveaxis(x, (int(batch_axis), int(seq_axis)), (0, 1)).copy()
    for i, n in enumerate(ints(lengths)):
        found[i, :n] = found[i, :n][::-1].copy()
    return np.moveaxis(found, (0, 1), (int(batch_axis), int(seq_axis)))


def cuts(
    x: Array, begin: Any, end: Any, stride: Any, begin_mask: Any, end_mask: Any, squeeze_mask: Any
) -> tuple[Any, ...]:
    """The index of a slice."""
    rank, found = x.ndim, list[Any]()
    steps = ints(stride) if stride is not None else (1,) * rank
    masks = [
        np.broadcast_to(np.asarray(False if m is None else m), (rank,)) for m in (begin_mask, end_mask, squeeze_mask)
    ]
    for i, (first, last, step) in enumerate(zip(ints(begin), ints(end), steps, strict=True)):
        if masks[2][i]:
            found.append(first)
            continue
        a, b = (None if masks[0][i] else first), (None if masks[1][i] else last)
        found.append(slice(a, b, step))
    return tuple(found)


@computes("slice_by_index")
def slice_by_index(
    x: Array, begin: Any, end: Any, stride: Any = None, begin_mask: Any = None, end_mask: Any = None,
    squeeze_mask: Any = None,
) -> Array:  # fmt: skip
    """numpy's slices."""
    return x[cuts(x, begin, end, stride, begin_mask, end_mask, squeeze_mask)]


@computes("slice_update")
def slice_update(
    x: Array, update: Array, begin: Any, end: Any, stride: Any = None, begin_mask: Any = None, end_mask: Any = None,
    squeeze_mask: Any = None,
) -> Array:  # fmt: skip
    """A slice replaced."""
    found, place = x.copy(), cuts(x, begin, end, stride, begin_mask, end_mask, squeeze_mask)
    if x[place].shape != update.shape:
        raise ValueError(f"{list(update.shape)} does not fit into {list(x[place].shape)}")
    found[place] = update
    return found


@computes("slice_by_size")
def slice_by_size(x: Array, begin: Any, size: Any) -> Array:
    """A begin and a size, -1 for the rest."""
    return x[tuple(slice(b, None if n == -1 else b + n) for b, n in zip(ints(begin), ints(size), strict=True))]


@computes("pad")
def pad(x: Array, pad: Any, mode: str = "constant", constant_val: Any = 0.0) -> Array:
    """The last dimensions."""
    values = ints(pad)
    inner = [(values[2 * i], values[2 * i + 1]) for i in range(len(values) // 2)]
    whole = [(0, 0)] * (x.ndim - len(inner)) + inner
    if mode == "constant":
        return np.pad(x, whole, constant_values=constant_val)
    return np.pad(x, whole, mode={"reflect": "reflect", "replicate": "edge"}[mode])  # type: ignore[call-overload]


@computes("depth_to_space")
def depth_to_space(x: Array, block_size: Any) -> Array:
    """DCR"""
    n, c, h, w = x.shape
    b = int(block_size)
    return x.reshape(n, b, b, c // b // b, h, w).transpose(0, 3, 4, 1, 5, 2).reshape(n, c // b // b, h * b, w * b)


@computes("pixel_shuffle")
def pixel_shuffle(x: Array, upscale_factor: Any) -> Array:
    """CRD"""
    n, c, h, w = x.shape
    b = int(upscale_factor)
    return x.reshape(n, c // b // b, b, b, h, w).transpose(0, 1, 4, 2, 5, 3).reshape(n, c // b // b, h * b, w * b)


@computes("space_to_depth")
def space_to_depth(x: Array, block_size: Any) -> Array:
    """The inverse of DCR."""
    n, c, h, w = x.shape
    b = int(block_size)
    return x.reshape(n, c, h // b, b, w // b, b).transpose(0, 3, 5, 1, 2, 4).reshape(n, c * b * b, h // b, w // b)


@computes("pixel_unshuffle")
def pixel_unshuffle(x: Array, downscale_factor: Any) -> Array:
    """The inverse of CRD."""
    n, c, h, w = x.shape
    b = int(downscale_factor)
    return x.reshape(n, c, h // b, b, w // b, b).transpose(0, 1, 3, 5, 2, 4).reshape(n, c * b * b, h // b, w // b)


@computes("band_part")
def band_part(x: Array, lower: Any = -1, upper: Any = -1) -> Array:
    """A band about the diagonal."""
    found = x if int(lower) < 0 else np.triu(x, -int(lower))
    return found if int(upper) < 0 else np.tril(found, int(upper))
