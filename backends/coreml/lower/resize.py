"""Resize and GridSample.

    nearest, whole scale, blocks        upsample_nearest_neighbor
    linear, half_pixel, doubled and so  upsample_bilinear
    everything else                     a constant matrix for each axis: separable sampling is linear in the input

The matrix holds what ONNX's formulas give: coordinate transformation, nearest rounding, linear or cubic weights,
antialiasing, exclude_outside, extrapolation. Source: ONNX operator specification, Resize, opset 19.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompiler.backends.coreml.lower.scope import Refused, Scope, Var, type_of
from qcompiler.backends.coreml.lower.table import lowers

F64 = npt.NDArray[np.float64]
MATRIX_LIMIT = 1 << 24


@lowers("Upsample", to="upsample_nearest_neighbor, gather, matmul", limits="open shapes, computed scales")
@lowers("Resize", to="upsample_nearest_neighbor, upsample_bilinear, gather, matmul",
        limits="open shapes, computed sizes or scales")  # fmt: skip
def resize(s: Scope) -> Var:
    """Axis by axis, where no operator has the same form."""
    x, shape = s.x(), s.shape()
    scales, sizes, roi = wanted(s, shape)
    mode = s.attr("mode", "nearest")
    for fast in (as_nearest, as_bilinear):
        found = fast(s, x, shape, scales, sizes)
        if found is not None:
            return found
    y, changed = x, False
    for axis, (n, m) in enumerate(zip(shape, sizes, strict=True)):
        if n == m and scales[axis] == 1.0 and roi[axis] == (0.0, 1.0):
            continue
        where = coordinates(s, n, m, scales[axis], roi[axis])
        changed = True
        if mode == "nearest":
            y = s.op("gather", x=y, indices=s.constant(nearest(s, where, n)), axis=axis)
            continue
        y = along(s, y, axis, sampling(s, where, n, scales[axis]))
    if not changed:
        return s.op("identity", x=x)
    outside = s.attr("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize"
    return extrapolated(s, y, shape, sizes, scales, roi) if outside else y


def wanted(s: Scope, shape: list[int]) -> tuple[list[float], list[int], list[tuple[float, float]]]:
    """Scale, size and region of interest of each axis."""
    rank = len(shape)
    axes = [int(a) % rank for a in s.ints("axes", list(range(rank))) or []]
    upsample = s.node.op == "Upsample"
    scale_port, size_port = (1, 9) if upsample else (2, 3)
    scales, sizes = [1.0] * rank, list(shape)
    roi = [(0.0, 1.0)] * rank
    found = None if s.has(size_port) else s.need(scale_port, "the scales").reshape(-1)
    if found is not None and found.size:
        for axis, value in zip(axes, found, strict=True):
            scales[axis] = float(value)
            sizes[axis] = math.floor(shape[axis] * float(value))
    else:
        given = [int(v) for v in s.need(size_port, "the sizes").reshape(-1)]
        policy = s.attr("keep_aspect_ratio_policy", "stretch")
        if policy != "stretch":
            pick = min if policy == "not_larger" else max
            ratio = pick(m / shape[a] for a, m in zip(axes, given, strict=True))
            given = [math.floor(ratio * shape[a] + 0.5) for a in axes]
        for axis, value in zip(axes, given, strict=True):
            sizes[axis] = value
            scales[axis] = ratio if policy != "stretch" else value / shape[axis]
    if not upsample and s.has(1) and s.attr("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize":
        values = s.need(1, "the region").reshape(2, -1)
        for axis, first, last in zip(axes, *values, strict=True):
            roi[axis] = (float(first), float(last))
    return scales, sizes, roi


def as_nearest(s: Scope, x: Var, shape: list[int], scales: list[float], sizes: list[int]) -> Var | None:
    """Whole scales of the last two axes, in blocks."""
    if s.attr("mode", "nearest") != "nearest" or len(shape) != 4 or shape[:2] != sizes[:2]:
        return None
    if any(scale != int(scale) for scale in scales[2:]) or type_of(x) not in ("fp32", "fp16"):
        return None
    for axis in (2, 3):
        where = coordinates(s, shape[axis], sizes[axis], scales[axis], (0.0, 1.0))
        blocks = np.repeat(np.arange(shape[axis]), int(scales[axis]))
        if not np.array_equal(nearest(s, where, shape[axis]), blocks):
            return None
    height, width = (int(scale) for scale in scales[2:])
    return s.op("upsample_nearest_neighbor", x=x, scale_factor_height=height, scale_factor_width=width)


def as_bilinear(s: Scope, x: Var, shape: list[int], scales: list[float], sizes: list[int]) -> Var | None:
    """Whole scales of the last two axes, half_pixel."""
    mode = s.attr("coordinate_transformation_mode", "half_pixel")
    plain = s.attr("mode", "nearest") == "linear" and mode in ("half_pixel", "pytorch_half_pixel")
    if not plain or len(shape) != 4 or shape[:2] != sizes[:2] or s.attr("antialias", 0) or s.attr("exclude_outside", 0):
        return None
    if any(scale != int(scale) for scale in scales[2:]) or (mode != "half_pixel" and 1 in sizes[2:]):
        return None
    height, width = (int(scale) for scale in scales[2:])
    return s.op(
        "upsample_bilinear", x=x, scale_factor_height=height, scale_factor_width=width, align_corners=False,
        half_pixel_centers=True,
    )  # fmt: skip


def coordinates(s: Scope, n: int, m: int, scale: float, roi: tuple[float, float]) -> F64:
    """Where each of `m` results lies in an axis of `n` values."""
    at = np.arange(m, dtype=np.float64)
    mode = s.attr("coordinate_transformation_mode", "asymmetric" if s.node.op == "Upsample" else "half_pixel")
    length = n * scale  # the size that ONNX computes with
    match mode:
        case "asymmetric":
            return at / scale
        case "half_pixel":
            return (at + 0.5) / scale - 0.5
        case "pytorch_half_pixel":
            return (at + 0.5) / scale - 0.5 if length > 1 else np.full(m, -0.5)
        case "align_corners":
            return at * (n - 1) / (length - 1) if length != 1 else np.zeros(m)
        case "half_pixel_symmetric":
            centre, adjusted = n / 2, m / length
            return centre * (1 - adjusted) + (at + 0.5) / scale - 0.5
        case "tf_crop_and_resize":
            first, last = roi
            if length <= 1:
                return np.full(m, 0.5 * (first + last) * (n - 1))
            return first * (n - 1) + at * (last - first) * (n - 1) / (length - 1)
        case _:
            raise Refused(f"coordinate_transformation_mode {mode}")


def nearest(s: Scope, where: F64, n: int) -> npt.NDArray[np.int32]:
    """The index that each coordinate rounds to."""
    how = s.attr("nearest_mode", "floor" if s.node.op == "Upsample" else "round_prefer_floor")
    rounded = {
        "floor": np.floor(where),
        "ceil": np.ceil(where),
        "round_prefer_floor": np.ceil(where - 0.5),
        "round_prefer_ceil": np.floor(where + 0.5),
    }[how]
    return np.clip(rounded, 0, n - 1).astype(np.int32)


def sampling(s: Scope, where: F64, n: int, scale: float) -> F64:
    """The weights of the `n` values of an axis in each result: (m, n)."""
    linear, a = s.attr("mode") == "linear", float(s.attr("cubic_coeff_a", -0.75))
    reach = 1.0 if linear else 2.0

    def kernel(d: F64) -> F64:
        return np.maximum(1 - np.abs(d), 0) if linear else cubic(np.abs(d), a)

    stretch = min(scale, 1.0) if s.attr("antialias", 0) else 1.0
    low = np.floor(where).astype(int)
    span = math.ceil(reach / stretch)
    matrix = np.zeros((len(where), n))
    taps = np.arange(1 - span, span + 1)
    index = low[:, None] + taps
    weights = kernel((index - where[:, None]) * stretch)
    if s.attr("exclude_outside", 0):
        weights = np.where((index < 0) | (index >= n), 0.0, weights)
        weights = weights / weights.sum(axis=1, keepdims=True)
    elif s.attr("antialias", 0):
        weights = weights / weights.sum(axis=1, keepdims=True)
    rows = np.broadcast_to(np.arange(len(where))[:, None], index.shape)
    np.add.at(matrix, (rows, np.clip(index, 0, n - 1)), weights)
    return matrix


def cubic(d: F64, a: float) -> F64:
    """Keys' kernel."""
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))


def along(s: Scope, x: Var, axis: int, matrix: F64) -> Var:
    """`x` with an axis multiplied by a constant matrix (m, n)."""
    if matrix.size > MATRIX_LIMIT:
        raise Refused(f"sampling by a matrix of {matrix.size} values")
    values, rank = matrix.astype(np.float32), int(x.rank)
    if axis == rank - 1:
        return s.op("matmul", x=x, y=s.constant(np.ascontiguousarray(values.T)), transpose_x=False, transpose_y=False)
    if axis == rank - 2:
        return s.op("matmul", x=s.constant(values), y=x, transpose_x=False, transpose_y=False)
    perm = [i for i in range(rank) if i != axis] + [axis]
    turned = s.op("transpose", x=x, perm=perm)
    found = s.op("matmul", x=turned, y=s.constant(np.ascontiguousarray(values.T)), transpose_x=False, transpose_y=False)
    return s.op("transpose", x=found, perm=[perm.index(i) for i in range(rank)])


def extrapolated(
    s: Scope, y: Var, shape: list[int], sizes: list[int], scales: list[float], roi: list[tuple[float, float]]
) -> Var:
    """Results that lie outside of the input take the value for that."""
    value = float(s.attr("extrapolation_value", 0.0))
    outside = np.zeros(sizes, np.bool_)
    for axis, (n, m) in enumerate(zip(shape, sizes, strict=True)):
        where = coordinates(s, n, m, scales[axis], roi[axis])
        form = [1] * len(sizes)
        form[axis] = -1
        outside |= ((where < 0) | (where > n - 1)).reshape(form)
    if not outside.any():
        return y
    fill = s.constant(np.full(sizes, value, np.float32))
    return s.op("select", cond=s.constant(outside), a=fill, b=y)


@lowers("GridSample", to="resample", limits="cubic, rank other than 4")
def grid_sample(s: Scope) -> Var:
    """Reflection with aligned corners is about the outer values, without about the outer edges."""
    mode = {"linear": "bilinear", "bilinear": "bilinear", "nearest": "nearest"}.get(s.attr("mode", "linear"))
    if mode is None or s.rank() != 4:
        raise Refused(f"mode {s.attr('mode', 'linear')} on rank {s.rank()}")
    aligned = bool(s.attr("align_corners", 0))
    outside = {"zeros": "constant", "border": "border", "reflection": "reflection" if aligned else "symmetric"}
    x: Any = s.x(0)
    return s.op(
        "resample", x=x, coordinates=s.cast(s.x(1), "fp32"), sampling_mode=mode,
        padding_mode=outside[s.attr("padding_mode", "zeros")], padding_value=s.scalar(0, x),
        coordinates_mode="normalized_minus_one_to_one", align_corners=aligned,
    )  # fmt: skip
