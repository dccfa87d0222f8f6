"""What statistics say of what a Conv or Gemm reads: how often each tap reads anything, and the level of each channel.

    share_k = places at which tap k lies inside the input / all places
    level_c = the t that minimises E[((x_c - t) / x_c)^2]  =  E[x_c] rho^2,   rho = E[x_c]^2 / E[x_c^2]

A tap that lies in the padding multiplies zeros. Where time has shrunk to a frame or two, as at the end of a network
that reads sound, that is most taps: there an error of a weight costs nothing, and makes good for nothing. Sizes that
the graph leaves open are those of the calibration samples; where they differ between samples, every tap counts whole.

The level is what a channel is nearly everywhere. Of a channel that hardly moves it is the mean. One that spreads over
orders of magnitude (sound: most frames are quiet) has a mean that only its loudest places come near: what makes good
for the mean error there is as large as the signal elsewhere. So errors count relative to x. For the lognormal
distribution with spread sigma, E[1 / x] / E[1 / x^2] = E[x] exp(-2 sigma^2) and rho = exp(-sigma^2).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from qcompiler import ir
from qcompiler.passes.plan.encode import Ranges

F64 = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Reading:
    """What a Conv or Gemm reads.

    Attributes:
        means, squares: E[x] and E[x^2] by input channel.
        shares: of the taps, of the kernel's shape; a number for Gemm.
    """

    means: F64
    squares: F64
    shares: F64

    @property
    def levels(self) -> F64:
        """Of each channel; 0 where it is always zero."""
        rho = np.square(self.means) / np.where(self.squares > 0, self.squares, 1.0)
        return self.means * np.square(np.minimum(rho, 1.0))


@dataclass(frozen=True)
class Readings:
    """What statistics say of the inputs of layers.

    Attributes:
        stats: with the channels of what the layers read.
        aliases: as in `encode`.
    """

    stats: Ranges | None = None
    aliases: Mapping[str, str] = field(default_factory=dict)

    def of(self, node: ir.Node) -> Reading | None:
        """Of one Conv or Gemm; None where its channels were not observed."""
        name = self.aliases.get(node.inputs[0].name, node.inputs[0].name)
        seen = None if self.stats is None else self.stats.channels(name, input_axis(node))
        if seen is None or self.stats is None or seen.counts.shape[0] != input_channels(node):
            return None
        histogram = self.stats.histogram(name)
        return Reading(seen.means(histogram), seen.mean_squares(histogram), shares(node, self.stats.shape(name)))


def input_axis(node: ir.Node) -> int:
    """Where the channels are that a Conv or Gemm sums over."""
    return 1 if node.op == "Conv" else -1


def input_channels(node: ir.Node) -> int:
    """How many there are."""
    shape = node.inputs[1].shape
    if node.op != "Conv":
        return int(shape[1 if node.attrs.get("transB", 0) else 0])
    return int(shape[1]) * int(node.attrs.get("group", 1))


def shares(node: ir.Node, seen: tuple[int | None, ...] | None = None) -> F64:
    """For each tap the share of result places at which it reads the input.

    Args:
        node: a Conv; everything else has one tap.
        seen: the shape of its input on samples.
    """
    share = np.ones(()) if node.op != "Conv" else np.ones(tuple(node.inputs[1].shape[2:]))
    for axis in range(share.ndim):
        form = [-1 if i == axis else 1 for i in range(share.ndim)]
        share = share * inside(node, axis, share.shape[axis], seen).reshape(form)
    return share


def inside(node: ir.Node, axis: int, kernel: int, seen: tuple[int | None, ...] | None = None) -> F64:
    """The same along one spatial axis."""
    rank = len(node.inputs[1].shape) - 2
    sizes = [None if shape is None or len(shape) != rank + 2 else shape[2 + axis] for shape in (_shape(node), seen)]
    size = next((size for size in sizes if isinstance(size, int)), None)
    if size is None or str(node.attrs.get("auto_pad", "NOTSET")) != "NOTSET":
        return np.ones(kernel)
    stride = int(node.attrs.get("strides", [1] * rank)[axis])
    dilation = int(node.attrs.get("dilations", [1] * rank)[axis])
    pads = [int(p) for p in node.attrs.get("pads", [0] * 2 * rank)]
    places = (size + pads[axis] + pads[rank + axis] - dilation * (kernel - 1) - 1) // stride + 1
    if places < 1:
        return np.ones(kernel)
    reads = np.arange(places) * stride - pads[axis] + (np.arange(kernel) * dilation)[:, None]
    return np.asarray(((reads >= 0) & (reads < size)).mean(axis=1))


def _shape(node: ir.Node) -> tuple[object, ...] | None:
    shape = node.inputs[0].shape
    return None if shape is None else tuple(shape)
