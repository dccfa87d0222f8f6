"""Operations that sample images."""

from __future__ import annotations

from typing import Any

import numpy as np

from qcompiler.backends.coreml.evaluate.table import Array, computes


def along(x: Array, axis: int, where: Array) -> Array:
    """`x` at fractional places of an axis, between the two neighbours; places beyond the ends are the ends."""
    n = x.shape[axis]
    where = np.clip(where, 0, n - 1)
    low = np.floor(where).astype(int)
    high = np.minimum(low + 1, n - 1)
    form = [1] * x.ndim
    form[axis] = -1
    share = (where - low).reshape(form).astype(np.float32)
    return x.take(low, axis) * (1 - share) + x.take(high, axis) * share


@computes("upsample_nearest_neighbor")
def upsample_nearest_neighbor(x: Array, scale_factor_height: Any = 1, scale_factor_width: Any = 1) -> Array:
    """Blocks."""
    for axis, scale in ((-2, scale_factor_height), (-1, scale_factor_width)):
        size = int(x.shape[axis] * float(scale))
        x = x.take(np.minimum((np.arange(size) / float(scale)).astype(int), x.shape[axis] - 1), axis)
    return x


@computes("upsample_bilinear")
def upsample_bilinear(
    x: Array, scale_factor_height: Any = 1, scale_factor_width: Any = 1, align_corners: Any = True,
    half_pixel_centers: Any = None,
) -> Array:  # fmt: skip
    """Corners on corners, or centres of pixels in proportion."""
    aligned = bool(align_corners)
    half = not aligned if half_pixel_centers is None else bool(half_pixel_centers)
    for axis, scale in ((x.ndim - 2, scale_factor_height), (x.ndim - 1, scale_factor_width)):
        n, m = x.shape[axis], int(x.shape[axis] * float(scale))
        at = np.arange(m)
        if aligned:
            where = at * ((n - 1) / (m - 1)) if m > 1 else np.zeros(m)
        else:
            where = (at + 0.5) / float(scale) - 0.5 if half else at / float(scale)
        x = along(x, axis, where)
    return x


@computes("resize_nearest_neighbor")
def resize_nearest_neighbor(x: Array, target_size_height: Any, target_size_width: Any) -> Array:
    """floor(i * n / m)"""
    for axis, m in ((-2, int(target_size_height)), (-1, int(target_size_width))):
        x = x.take(np.arange(m) * x.shape[axis] // m, axis)
    return x


@computes("resize_bilinear")
def resize_bilinear(x: Array, target_size_height: Any, target_size_width: Any, sampling_mode: str = "DEFAULT") -> Array:
    """In the sampling modes that a matrix of ours does not replace."""
    for axis, m in ((x.ndim - 2, int(target_size_height)), (x.ndim - 1, int(target_size_width))):
        n, at = x.shape[axis], np.arange(m)
        if sampling_mode in ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS"):
            where = at * ((n - 1) / (m - 1)) if m > 1 else np.zeros(m)
        elif sampling_mode == "UNALIGN_CORNERS":
            where = (at + 0.5) * n / m - 0.5
        else:
            where = at * n / m
        x = along(x, axis, where)
    return x


def reflected(where: Array, low: float, high: float) -> Array:
    """Places beyond the ends turned back, as often as it takes."""
    span = high - low
    if span <= 0:
        return np.full_like(where, low)
    turned = np.mod(where - low, 2 * span)
    return low + np.where(turned > span, 2 * span - turned, turned)


@computes("resample")
def resample(
    x: Array, coordinates: Array, sampling_mode: str, padding_mode: str, padding_value: Any, coordinates_mode: str,
    align_corners: Any,
) -> Array:  # fmt: skip
    """Pixels at given places; coordinates are (x, y)."""
    height, width = x.shape[2:]
    places = []
    for i, n in ((1, height), (0, width)):
        c = coordinates[..., i].astype(np.float64)
        if coordinates_mode == "normalized_minus_one_to_one":
            c = (c + 1) / 2 * (n - 1) if bool(align_corners) else ((c + 1) * n - 1) / 2
        elif coordinates_mode == "normalized_zero_to_one":
            c = c * (n - 1) if bool(align_corners) else c * n - 0.5
        if padding_mode == "reflection":
            c = reflected(c, 0, n - 1)
        elif padding_mode == "symmetric":
            c = np.clip(reflected(c, -0.5, n - 0.5), 0, n - 1)
        elif padding_mode == "border":
            c = np.clip(c, 0, n - 1)
        places.append(c)
    row, column = places
    if sampling_mode == "nearest":
        return pixels(x, np.rint(row), np.rint(column), float(padding_value))
    top, left = np.floor(row), np.floor(column)
    down, across = (row - top)[:, None], (column - left)[:, None]
    found = np.zeros((x.shape[0], x.shape[1], *row.shape[1:]))
    for dy, dx in ((0, 0), (0, 1), (1, 0), (1, 1)):
        share = (down if dy else 1 - down) * (across if dx else 1 - across)
        found += share * pixels(x, top + dy, left + dx, float(padding_value))
    return found.astype(np.float32)


def pixels(x: Array, row: Array, column: Array, outside: float) -> Array:
    """Whole pixels, `outside` beyond the edges."""
    height, width = x.shape[2:]
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    r, c = np.clip(row, 0, height - 1).astype(int), np.clip(column, 0, width - 1).astype(int)
    batch = np.arange(x.shape[0])[:, None, None]
    found = x[batch, :, r, c].transpose(0, 3, 1, 2)
    return np.where(inside[:, None], found, outside)
