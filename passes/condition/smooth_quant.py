"""Channels between a normalization or a matrix product and the products that read it, stretched by measured error.

    LayerNormalization, RMSNormalization, Gemm -> [Relu, LeakyRelu] -> MatMul, Gemm, ...

The places, the powers of two and what becomes of the constants are those of `equalize-layers`; what differs is how k_c
is found: by what rows that were seen lose (`numerics/smooth`). A value that others read too, as the residual of a
transformer, cannot be stretched itself: there the products read it times 2^k, by a Mul of its own, where the target has
that for little (`TargetSpec.channel_mul`) and the error is less than half.

Source: see `numerics/smooth`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from qcompiler import ir
from qcompiler.numerics.channel_histogram import ChannelHistogram
from qcompiler.numerics.migrate import WORTH
from qcompiler.numerics.observers import ChannelRange
from qcompiler.numerics.smooth import smoothed
from qcompiler.passes.condition.equalize_layers import (
    F64,
    EqualizeLayers,
    Stretch,
    by_input,
    reads,
    stretches,
    trained,
)
from qcompiler.quant import QuantPlan

KINDS = ("int8", "w8")
# A node must gain more than factors that are folded.
WORTH_A_NODE = 0.5


@dataclass(frozen=True)
class SmoothQuant(EqualizeLayers):
    """Stretches values that quantized products read; fields as there, and rows of the values.

    Attributes:
        rows: (n, channels) by the name of the value.
        nodes: whether nodes may be added.
    """

    name: ClassVar[str] = "smooth-quant"
    rows: Mapping[str, F64] = field(default_factory=dict)
    nodes: bool = False

    def places(self, model: ir.Model) -> Iterator[Stretch]:
        """Those that products read."""
        return smoothable(model, self.plan, self.nodes)

    def chosen(self, place: Stretch, ends: ChannelRange, held: ChannelHistogram) -> npt.NDArray[np.int64]:
        """k_c; zeros where no rows were seen."""
        low, high = ends.minimum.astype(np.float64), ends.maximum.astype(np.float64)
        rows = self.rows.get(place.tensor.name, np.zeros((0, low.size)))
        worth = WORTH if place.ports else WORTH_A_NODE
        return smoothed(rows, low, high, [by_input(node)[:, :, 0] for node in place.readers], worth)


def smoothable(model: ir.Model, plan: QuantPlan, nodes: bool) -> Iterator[Stretch]:
    """The values that products of matrices read; with `nodes` those too that something else reads or makes."""
    folded = [place for place in stretches(model, plan, KINDS) if place.axis == -1]
    yield from folded
    known, edit = {place.tensor.name for place in folded}, ir.Editor(model, model.graph)
    for node in model.nodes if nodes else ():
        for value in node.outputs:
            readers = tuple(use.node for use in edit.uses(value) if use.node is not None and use.port == 0)
            readers = tuple(reader for reader in readers if reads(reader, -1, plan, KINDS))
            place = Stretch(value, -1, node, {}, readers)
            if readers and value.name not in known and value.dtype == np.float32 and not trained(place, plan):
                yield place
