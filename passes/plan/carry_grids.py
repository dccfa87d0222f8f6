"""Grids of trained weights that were multiplied channel by channel since: the scale is multiplied, the codes stay.

    W = s q,  W' = f W, f > 0 by output channel    ->    W' = (f s) q

PyTorch trains a Conv in front of a BatchNormalization as Conv(x, FQ(k W)) / k, k = gamma / sqrt(var + epsilon), so that
the grid is that of the folded weight (Jacob et al. 2018, section 3.2); folding multiplies by k again, which leaves a
weight that is on the trained grid to rounding, under another name. f is found from the two weights, by least squares.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from qcompiler import ir
from qcompiler.quant import Encoding, PerAxis, Site
from qcompiler.targets import channel_axis

NEAR = 0.01
"""Of a step: how far the new weight may be from the grid."""


def carried(given: Mapping[Site, Encoding], before: ir.Model, after: ir.Model) -> dict[Site, Encoding]:
    """The given encodings, and those of weights that were multiplied.

    Args:
        given: encodings that `before` came with.
        before: the model when they were found.
        after: the same with factors folded.
    """
    nodes = {node.name: node for node in after.nodes}
    weights = {constant.name: constant for constant in before.constants()} if given else {}
    found = dict(given)
    for site, encoding in given.items():
        node, old = nodes.get(site.consumer), weights.get(site.tensor)
        if node is None or old is None or site.port >= len(node.inputs):
            continue
        new = node.inputs[site.port]
        if not isinstance(new, ir.Constant) or new.name in weights or list(new.shape) != list(old.shape):
            continue
        made = multiplied(encoding, ir.array(old), ir.array(new), channel_axis(node))
        if made is not None:
            found[Site(new.name, node.name, site.port)] = made
    return found


def multiplied(
    encoding: Encoding, old: npt.NDArray[np.floating], new: npt.NDArray[np.floating], axis: int
) -> Encoding | None:
    """The encoding of a weight that is an old one times a factor for each index of `axis`; None where it is not."""
    granularity = encoding.spec.granularity
    if encoding.zero_point.any() or (encoding.scale.ndim and granularity != PerAxis(axis)):
        return None
    rows, others = (np.moveaxis(v, axis, 0).reshape(v.shape[axis], -1).astype(np.float64) for v in (old, new))
    energy = np.square(rows).sum(1)
    factor = np.divide((rows * others).sum(1), energy, out=np.ones(len(rows)), where=energy > 0)
    scale = factor * encoding.scale
    if not (scale > 0).all() or (np.abs(others - factor[:, None] * rows) > NEAR * scale[:, None]).any():
        return None
    spec = replace(encoding.spec, granularity=PerAxis(axis))
    return replace(encoding, spec=spec, scale=scale.astype(np.float32), zero_point=np.zeros(len(scale), np.int32))
