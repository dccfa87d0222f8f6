"""What each row of a layer's weights is multiplied with: the input of Conv, Gemm or MatMul as rows of patches.

    Conv     y[n, o, p] = sum over k of W[o, k] x_patch(n, p)[k]      k runs over input channel of the group, then taps
    Gemm     y[n, o] = sum over k of W[o, k] x[n, k]

A layer is described by the few numbers that matter here, since this package knows no graph.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Window:
    """The geometry of a Conv; of a matrix product with `kernel` empty.

    Attributes:
        kernel, strides, dilations: along each spatial axis.
        pads: begins, then ends.
        groups: of channels.
    """

    kernel: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()
    dilations: tuple[int, ...] = ()
    pads: tuple[int, ...] = ()
    groups: int = 1


def patches(x: Array, window: Window, most: int, fill: float = 0.0) -> Array:
    """Patches at evenly spaced places.

    Args:
        x: the input of the layer.
        window: its geometry.
        most: how many places to look at, about.
        fill: what padding holds.

    Returns:
        (groups, places, K).
    """
    rank = len(window.kernel)
    if not rank:
        rows = x.reshape(-1, x.shape[-1])
        return rows[spread(rows.shape[0], most)][None]
    margins = [(0, 0), (0, 0), *((window.pads[i], window.pads[rank + i]) for i in range(rank))]
    padded = np.pad(x, margins, constant_values=fill)
    reach = [(size - 1) * gap + 1 for size, gap in zip(window.kernel, window.dilations, strict=True)]
    views = np.lib.stride_tricks.sliding_window_view(padded, reach, axis=tuple(range(2, 2 + rank)))
    thin = (slice(None), slice(None), *(slice(None, None, s) for s in (*window.strides, *window.dilations)))
    views = views[thin]
    places = (views.shape[0], *views.shape[2 : 2 + rank])
    at = np.unravel_index(spread(int(np.prod(places)), most), places)
    where: tuple[Any, ...] = (at[0], slice(None), *at[1:])
    found = views[where]
    grouped = found.reshape(found.shape[0], window.groups, -1)
    return np.ascontiguousarray(grouped.transpose(1, 0, 2))


def spread(size: int, most: int) -> npt.NDArray[np.int64]:
    """At most `most` indices, evenly spaced; the distance shares no factor with the size."""
    step = max(1, -(-size // most))
    while np.gcd(step, size) > 1 and step < size:
        step += 1
    return np.arange(0, size, step)
