"""Convolutions, pools, products of matrices. A window operation is a sum over its taps, so that memory stays small."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from qcompiler.backends.coreml.evaluate.table import Array, computes, ints


def pads_of(
    size: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int], kind: str, pad: Any
) -> list[tuple[int, int]]:
    """Padding before and behind each spatial dimension."""
    if kind == "custom":
        values = ints(pad)
        return [(values[2 * i], values[2 * i + 1]) for i in range(len(kernel))]
    if kind == "valid":
        return [(0, 0)] * len(kernel)
    found = []
    for n, k, step, d in zip(size, kernel, strides, dilations, strict=True):
        whole = max((-(-n // step) - 1) * step + (k - 1) * d + 1 - n, 0)
        small = whole // 2
        found.append((whole - small, small) if kind == "same_lower" else (small, whole - small))
    return found


def taps(
    x: Array, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int], sizes: Sequence[int]
) -> Iterator[tuple[tuple[int, ...], Array]]:
    """Each place in the kernel, with the values of the padded input that it sees."""
    for place in itertools.product(*map(range, kernel)):
        cut = tuple(
            slice(p * d, p * d + (m - 1) * step + 1, step)
            for p, d, m, step in zip(place, dilations, sizes, strides, strict=True)
        )
        yield place, x[(slice(None), slice(None), *cut)]


def padded(x: Array, pads: Sequence[tuple[int, int]], value: float = 0.0) -> Array:
    """The input with its spatial dimensions padded."""
    return np.pad(x, [(0, 0), (0, 0), *pads], constant_values=value) if any(map(any, pads)) else x


def lengths(x: Array, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]) -> list[int]:
    """The spatial sizes of the result."""
    return [
        (n - (k - 1) * d - 1) // step + 1 for n, k, step, d in zip(x.shape[2:], kernel, strides, dilations, strict=True)
    ]


@computes("conv")
def conv(
    x: Array, weight: Array, strides: Any, pad_type: str, dilations: Any, groups: Any, pad: Any = None, bias: Any = None
) -> Array:
    """Cross-correlation."""
    kernel, step, dilation, g = weight.shape[2:], ints(strides), ints(dilations), int(groups)
    x = padded(x, pads_of(x.shape[2:], kernel, step, dilation, pad_type, pad))
    sizes = lengths(x, kernel, step, dilation)
    batch, channels, filters = x.shape[0], x.shape[1], weight.shape[0]
    out = np.zeros((batch, g, filters // g, int(np.prod(sizes))), x.dtype)
    w = weight.reshape(g, filters // g, channels // g, *kernel)
    for place, seen in taps(x, kernel, step, dilation, sizes):
        columns = seen.reshape(batch, g, channels // g, -1)
        part = w[(slice(None), slice(None), slice(None), *place)]
        out += part * columns if channels == g else part @ columns
    found = out.reshape(batch, filters, *sizes)
    return found if bias is None else found + bias.reshape(-1, *[1] * len(sizes))


@computes("conv_transpose")
def conv_transpose(
    x: Array, weight: Array, strides: Any, pad_type: str, dilations: Any, groups: Any,
    pad: Any = None, bias: Any = None,
) -> Array:  # fmt: skip
    """Every value spread by the kernel, then cut by the pads."""
    kernel, step, dilation, g = weight.shape[2:], ints(strides), ints(dilations), int(groups)
    batch, channels, sizes = x.shape[0], x.shape[1], x.shape[2:]
    full = [(n - 1) * s + (k - 1) * d + 1 for n, s, k, d in zip(sizes, step, kernel, dilation, strict=True)]
    filters = weight.shape[1]
    out = np.zeros((batch, g * filters, *full), x.dtype)
    w = weight.reshape(g, channels // g, filters, *kernel)
    columns = x.reshape(batch, g, channels // g, -1)
    for place in itertools.product(*map(range, kernel)):
        part = w[(slice(None), slice(None), slice(None), *place)].transpose(0, 2, 1) @ columns
        cut = tuple(
            slice(p * d, p * d + (n - 1) * s + 1, s) for p, d, n, s in zip(place, dilation, sizes, step, strict=True)
        )
        out[(slice(None), slice(None), *cut)] += part.reshape(batch, g * filters, *sizes)
    if pad_type == "custom":
        values = ints(pad)
        for i, n in enumerate(full):
            out = out.take(np.arange(values[2 * i], n - values[2 * i + 1]), axis=i + 2)
    elif pad_type == "same":
        for i, (n, s, f) in enumerate(zip(sizes, step, full, strict=True)):
            first = (f - n * s) // 2
            out = out.take(np.arange(first, first + n * s), axis=i + 2)
    return out if bias is None else out + bias.reshape(-1, *[1] * len(sizes))


def pool_sizes(size: Sequence[int], kernel: Sequence[int], strides: Sequence[int], pads: Any, ceil: bool) -> list[int]:
    """The spatial sizes of a pool; one that rounds up starts no window beyond the input."""
    found = []
    for n, k, step, (before, behind) in zip(size, kernel, strides, pads, strict=True):
        span = n + before + behind - k
        count = -(-span // step) + 1 if ceil else span // step + 1
        if ceil and (count - 1) * step >= n + before:
            count -= 1
        found.append(count)
    return found


def pooled(
    x: Array, kernel_sizes: Any, strides: Any, pad_type: str, pad: Any, ceil_mode: Any, fill: float
) -> tuple[Iterator[Array], list[int], list[tuple[int, int]], list[int]]:
    """The values that each tap sees, with the sizes of the result and the pads."""
    kernel, step = ints(kernel_sizes), ints(strides)
    ones = [1] * len(kernel)
    pads = pads_of(x.shape[2:], kernel, step, ones, pad_type, pad)
    sizes = pool_sizes(x.shape[2:], kernel, step, pads, bool(ceil_mode))
    reach = [
        max((m - 1) * s + k - n - before, behind)
        for m, s, k, n, (before, behind) in zip(sizes, step, kernel, x.shape[2:], pads, strict=True)
    ]
    wide = padded(x, [(before, end) for (before, _), end in zip(pads, reach, strict=True)], fill)
    return (seen for _, seen in taps(wide, kernel, step, ones, sizes)), sizes, pads, reach


@computes("max_pool")
def max_pool(
    x: Array, kernel_sizes: Any, strides: Any, pad_type: str, pad: Any = None, ceil_mode: Any = False
) -> Array:
    """The largest value of each window."""
    windows, *_ = pooled(x, kernel_sizes, strides, pad_type, pad, ceil_mode, -np.inf)
    found = next(windows).copy()
    for seen in windows:
        np.maximum(found, seen, out=found)
    return found


@computes("avg_pool", "l2_pool")
def avg_pool(
    x: Array, kernel_sizes: Any, strides: Any, pad_type: str, pad: Any = None, ceil_mode: Any = False,
    exclude_padding_from_average: Any = None,
) -> Array:  # fmt: skip
    """The mean of each window, or where nothing is said of padding the root of its sum of squares."""
    squares = exclude_padding_from_average is None
    windows, sizes, pads, reach = pooled(x * x if squares else x, kernel_sizes, strides, pad_type, pad, ceil_mode, 0.0)
    total = next(windows).copy()
    for seen in windows:
        total = total + seen
    if squares:
        return np.sqrt(total)
    inside = np.ones((1, 1, *x.shape[2:]), np.float32)
    if not bool(exclude_padding_from_average):
        inside = np.pad(inside, [(0, 0), (0, 0), *pads], constant_values=1)
        pads = [(0, 0)] * len(pads)
        reach = [max(e - b, 0) for e, b in zip(reach, [p for _, p in pads], strict=True)]
    kernel, step = ints(kernel_sizes), ints(strides)
    spans = [(m - 1) * s + k for m, s, k in zip(sizes, step, kernel, strict=True)]
    wide = [
        (before, max(span - before - n, 0)) for (before, _), span, n in zip(pads, spans, inside.shape[2:], strict=True)
    ]
    counts = sum(seen for _, seen in taps(padded(inside, wide), kernel, step, [1] * len(kernel), sizes))
    return total / counts


@computes("linear")
def linear(x: Array, weight: Array, bias: Any = None) -> Array:
    """x W' + b"""
    found = x @ weight.T
    return found if bias is None else found + bias


@computes("matmul")
def matmul(x: Array, y: Array, transpose_x: Any = False, transpose_y: Any = False) -> Array:
    """numpy.matmul"""
    if bool(transpose_x) and x.ndim > 1:
        x = x.swapaxes(-1, -2)
    if bool(transpose_y) and y.ndim > 1:
        y = y.swapaxes(-1, -2)
    return np.matmul(x, y)


@computes("einsum")
def einsum(values: Sequence[Array], equation: str) -> Array:
    """numpy.einsum"""
    return np.asarray(np.einsum(equation, *values))


@computes("scaled_dot_product_attention")
def attention(query: Array, key: Array, value: Array, attn_mask: Any = None) -> Array:
    """softmax(Q K' / sqrt(d) + mask) V"""
    logits = query @ key.swapaxes(-1, -2) / np.float32(np.sqrt(query.shape[-1]))
    if attn_mask is not None:
        logits = np.where(attn_mask, logits, -np.inf) if attn_mask.dtype == np.bool_ else logits + attn_mask
    found = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return (found / found.sum(axis=-1, keepdims=True)) @ value
