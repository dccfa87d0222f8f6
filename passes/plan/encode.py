"""Plan v2: the numbers. Ranges from the statistics, scales and zero points from the ranges.

    activation   [low, high] of the method, one per sharing group, from the histogram of the group's root
    weight       max |w| of each output channel: scale = max / 127, zero point 0

Biases follow later (`derive_bias`), when the scales they depend on are final.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from qcompiler import ir
from qcompiler.errors import InternalError
from qcompiler.numerics.affine import choose_qparams
from qcompiler.numerics.histogram import Histogram
from qcompiler.numerics.ranges import METHODS
from qcompiler.passes.plan.annotate import needs_range
from qcompiler.pipeline import PassRecord, PlanPass
from qcompiler.quant import Encoding, PerAxis, QSpec, QuantPlan, Site, SitePlan


class Ranges(Protocol):
    """The part of the statistics that encoding needs."""

    def histogram(self, tensor: str) -> Histogram:
        """The histogram of a tensor."""


def wanted(model: ir.Model, plan: QuantPlan) -> tuple[str, ...]:
    """Tensors whose statistics `Encode` needs, in plan order: roots of static activations without an encoding."""
    constants = {constant.name for constant in model.constants()}
    found = {
        root.tensor: None
        for root in plan.groups()
        if needs_range(plan.sites[root]) and root.tensor not in constants and plan.sites[root].encoding is None
    }
    return tuple(found)


@dataclass(frozen=True)
class Encode(PlanPass):
    """Gives every quantized site its encoding.

    Attributes:
        stats: histograms of the tensors that `wanted` names.
        method: range method for activations.
        methods: other methods for tensors that match a pattern, first match wins.
    """

    name: ClassVar[str] = "encode"
    stats: Ranges | None = None
    method: str = "auto"
    methods: Mapping[str, str] = field(default_factory=dict)

    def apply(self, model: ir.Model, plan: QuantPlan, record: PassRecord) -> QuantPlan:
        """The plan with encodings."""
        constants = {constant.name: constant for constant in model.constants()}
        done: dict[Site, SitePlan] = {}
        for root, members in plan.groups().items():
            decision = plan.sites[root]
            if decision.choice is None or not needs_range(decision):
                continue
            encoding = decision.encoding or self._encoding(root, decision.choice, constants)
            done.update({s: replace(plan.sites[s], encoding=plan.follow(s, encoding)) for s in members})
        record.changes = len(done)
        return plan.with_sites(done)

    def _encoding(self, root: Site, spec: QSpec, constants: Mapping[str, ir.Constant]) -> Encoding:
        constant = constants.get(root.tensor)
        if constant is not None:
            values = ir.array(constant).astype(np.float32, copy=False)
            return encode_constant(values, spec)
        if self.stats is None:
            raise InternalError("no statistics for a static activation", where=str(root))
        method = next((m for p, m in self.methods.items() if fnmatchcase(root.tensor, p)), self.method)
        histogram = self.stats.histogram(root.tensor)
        low, high = METHODS[method](histogram, qmin=spec.low, qmax=spec.high, symmetric=spec.symmetric)
        return affine(low, high, spec, method)


def affine(low: npt.ArrayLike, high: npt.ArrayLike, spec: QSpec, method: str) -> Encoding:
    """The encoding of a range."""
    scale, zero_point = choose_qparams(low, high, qmin=spec.low, qmax=spec.high, symmetric=spec.symmetric)
    return Encoding(spec, scale, zero_point, method)


def encode_constant(values: npt.NDArray[np.float32], spec: QSpec) -> Encoding:
    """The encoding of a constant: its exact extremes, per tensor or per index of an axis."""
    axes: tuple[int, ...] | None = None
    if isinstance(spec.granularity, PerAxis):
        axes = tuple(i for i in range(values.ndim) if i != spec.granularity.axis)
    return affine(values.min(axes, initial=0.0), values.max(axes, initial=0.0), spec, "minmax")
