"""Gelu(x) -> x Sigmoid(p(x)), for targets whose kernels of Sigmoid and Mul keep more of 16 bits than that of Gelu.

The form is that of `fusion.written_out`; what it adds has known bounds, so no statistics are needed:

    w = k x cut to [-5 k, 5 k]    w^2 in [0, 25 k^2]    the sum that w is multiplied by, positive    the gate in [0, 1]

A range with zero in the middle ends a step early at the top: so the grid of w lies inside the bounds of the Clip before
it, which says no more than the grid then, and which the backend drops.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import ClassVar

from qcompiler import ir
from qcompiler.passes.fusion.expand_operators import writings
from qcompiler.passes.fusion.written_out import gelu_with_bounds
from qcompiler.passes.plan.encode import affine
from qcompiler.pipeline import GraphPass, PassRecord
from qcompiler.quant import Encoding, QSpec, Site


@dataclass(frozen=True)
class GeluToSigmoid(GraphPass):
    """Rewrites the main graph; the result keeps its name, under which its statistics are filed.

    Attributes:
        spec: how activations are stored.
        keep_float: patterns of nodes to leave.
        given: filled by the pass: the encodings of what it adds.
    """

    name: ClassVar[str] = "gelu-to-sigmoid"
    spec: QSpec
    keep_float: tuple[str, ...] = ()
    given: dict[Site, Encoding] = field(default_factory=dict)

    def apply(self, model: ir.Model, record: PassRecord) -> None:
        """Each Gelu is a change."""
        kept = {node.name for node in model.nodes if any(fnmatchcase(node.name, p) for p in self.keep_float)}
        wanted = [node for node in model.nodes if node.op == "Gelu" and node.name not in kept]
        for write in writings(model, wanted, record):
            for tensor, (low, high) in gelu_with_bounds(write, write.x):
                top = high * (1 - 2.0 ** (1 - self.spec.qtype.bits)) if high == -low else high
                self.given[Site(tensor.name)] = affine(low, top, self.spec, "bounds")
