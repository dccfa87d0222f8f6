"""Plan v2: the numbers. Ranges from the statistics, scales and zero points from the ranges.

    activation   [low, high] of the method, one per sharing group, from the histogram of the group's root, cut to what
                 its readers can tell apart (`useful_range`); method "auto" counts each value as often as its channel
                 matters to them (`importance`)
    weight       max |w| of each output channel: scale = max / 127, zero point 0; up to 4 bits the clip of least squared
                 error; or a palette
    float types  max |x| on the largest number of the type; of the methods only the percentile cuts values off

Biases follow later (`derive_bias`), when the scales they depend on are final.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import ClassVar, Protocol

import numpy as np
import numpy.typing as npt
from onnx import helper

from qcompiler import ir
from qcompiler.errors import DataError, InternalError
from qcompiler.numerics.affine import choose_qparams
from qcompiler.numerics.channel_histogram import ChannelHistogram
from qcompiler.numerics.float_grid import PHASES, choose_scale, phase
from qcompiler.numerics.histogram import Histogram
from qcompiler.numerics.palette import palettes
from qcompiler.numerics.ranges import range_of
from qcompiler.numerics.scale_forms import rounded_scale
from qcompiler.numerics.weights import CLIP_FACTORS, extremes, float_grid, integer_grid, mse_clip
from qcompiler.passes.plan.annotate import needs_range
from qcompiler.passes.plan.bounds import Bounds, bounds, expressible, fits, within
from qcompiler.passes.plan.importance import Importance, importance
from qcompiler.passes.plan.useful_range import useful_ranges
from qcompiler.pipeline import PassRecord, PlanPass
from qcompiler.quant import Encoding, PerBlock, PerGroup, PerTensor, QSpec, QuantPlan, Site, SitePlan

FEW_BITS = 4


class Ranges(Protocol):
    """The part of the statistics that encoding needs."""

    def histogram(self, tensor: str) -> Histogram:
        """The histogram of a tensor."""

    def channels(self, tensor: str, axis: int) -> ChannelHistogram | None:
        """Whose values it holds, if that is known."""

    def shape(self, tensor: str) -> tuple[int | None, ...] | None:
        """The shape on all samples: None for what varies or is not known."""


def wanted(model: ir.Model, plan: QuantPlan) -> tuple[str, ...]:
    """Tensors whose statistics `Encode` needs, in plan order.

    These are the roots of static activations without an encoding, and those whose given grid goes below the bounds of
    the activation in front (see `given_within`).
    """
    constants, limits = {constant.name for constant in model.constants()}, limits_of(model)
    found: dict[str, None] = {}
    for root in plan.groups():
        decision = plan.sites[root]
        if not needs_range(decision) or root.tensor in constants:
            continue
        limit = limits.get(root.tensor)
        if decision.encoding is None or (limit is not None and not fits(decision.encoding, limit)):
            found[root.tensor] = None
    return tuple(found)


def limits_of(model: ir.Model) -> Mapping[str, Bounds]:
    """The bounds that hold zero, of each result of Relu and Clip in the main graph."""
    return {
        node.outputs[0].name: limit
        for node in model.nodes
        if node.inputs and expressible(node, node.inputs[0]) and (limit := bounds(node)) is not None
    }


@dataclass(frozen=True)
class Encode(PlanPass):
    """Gives every quantized site its encoding.

    Attributes:
        stats: histograms of the tensors that `wanted` names.
        method: range method for activations.
        methods: other methods for tensors that match a pattern, first match wins.
        aliases: the name under which the statistics of a tensor are filed, where it is not its own.
    """

    name: ClassVar[str] = "encode"
    stats: Ranges | None = None
    method: str = "auto"
    methods: Mapping[str, str] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)

    def apply(self, model: ir.Model, plan: QuantPlan, record: PassRecord) -> QuantPlan:
        """The plan with encodings.

        Raises:
            DataError: the statistics lack a tensor, or hold NaN or infinity.
        """
        constants, limits = {constant.name: constant for constant in model.constants()}, limits_of(model)
        useful, matters = useful_ranges(model, self._seen), importance(model)
        done: dict[Site, SitePlan] = {}
        for root, members in plan.groups().items():
            decision = plan.sites[root]
            if decision.choice is None or not needs_range(decision):
                continue
            encoding = decision.encoding or self._encoding(root, decision.choice, constants, useful, matters)
            if root.tensor in limits:
                encoding = self._bounded(root, encoding, limits[root.tensor])
            done.update({s: replace(plan.sites[s], encoding=plan.follow(s, encoding)) for s in members})
        record.changes = len(done)
        return plan.with_sites(done)

    def _seen(self, tensor: str) -> Histogram | None:
        try:
            return None if self.stats is None else self.stats.histogram(self.aliases.get(tensor, tensor))
        except DataError:
            return None

    def _encoding(
        self,
        root: Site,
        spec: QSpec,
        constants: Mapping[str, ir.Constant],
        useful: Mapping[str, Bounds],
        matters: Mapping[str, Importance],
    ) -> Encoding:
        constant = constants.get(root.tensor)
        if constant is not None:
            values = ir.array(constant)
            return encode_constant(np.clip(values, *useful[root.tensor]) if root.tensor in useful else values, spec)
        if self.stats is None:
            raise InternalError("no statistics for a static activation", where=str(root))
        name = self.aliases.get(root.tensor, root.tensor)
        method = next((m for p, m in self.methods.items() if fnmatchcase(name, p)), self.method)
        histogram = self.stats.histogram(name)
        if spec.qtype.kind == "float" and method != "percentile":
            method = "minmax"
        if method == "auto" and root.tensor in matters:
            channels = self.stats.channels(name, matters[root.tensor].axis)
            histogram = histogram if channels is None else channels.weighted(histogram, matters[root.tensor].channels)
        if root.tensor in useful:
            histogram = histogram.clamped(*useful[root.tensor])
        try:
            low, high = range_of(method, histogram, qmin=spec.low, qmax=spec.high, symmetric=spec.symmetric)
            if spec.qtype.kind == "float" and spec.qtype.bits > FEW_BITS:
                amax, dtype = max(-low, high), helper.tensor_dtype_to_np_dtype(spec.qtype.onnx)
                high = amax * phase(histogram, amax, high=spec.qtype.high, dtype=dtype)
            return affine(low, high, spec, method)
        except DataError as error:
            raise DataError(error.what, where=name, hint=error.hint) from error

    def _bounded(self, root: Site, encoding: Encoding, limit: Bounds) -> Encoding:
        if encoding.spec.symmetric or encoding.spec.qtype.kind == "float":
            return encoding  # its grid cannot end at zero: the activation stays a node
        if encoding.method != "given" or self.stats is None or fits(encoding, limit):
            return within(encoding, limit)
        return given_within(encoding, limit, self.stats.histogram(self.aliases.get(root.tensor, root.tensor)).maximum)


def given_within(encoding: Encoding, limit: Bounds, largest: float) -> Encoding:
    """A given grid that goes below the bounds of its activation, as one that ends there (rule 4 of the fact sheet).

    Networks trained for symmetric int8 store the result of Relu with half of the codes unused. ONNX Runtime computes
    Conv and Relu in one integer kernel only if zero is the lowest code, so zero is moved there. Where no value ever
    came near the old upper end, the scale stays, and so do all values; else saturation must stay where it was trained,
    and the same range is divided into finer steps.
    """
    top = encoding.range[1]
    moved = replace(encoding, zero_point=np.asarray(encoding.spec.low, np.int32))
    unsaturated = largest <= top + 0.5 * float(encoding.scale)
    return moved if unsaturated and limit[0] == 0.0 and fits(moved, limit) else within(encoding, limit)


def affine(low: npt.ArrayLike, high: npt.ArrayLike, spec: QSpec, method: str) -> Encoding:
    """The encoding of a range; a grid of floats ends at its larger end."""
    if spec.qtype.kind == "float":
        scale = choose_scale(np.maximum(-np.asarray(low), np.asarray(high)), high=spec.qtype.high)
        zero_point = np.zeros(scale.shape, np.int32)
    else:
        scale, zero_point = choose_qparams(low, high, qmin=spec.low, qmax=spec.high, symmetric=spec.symmetric)
    return Encoding(spec, rounded_scale(scale, spec.scale), zero_point, method)


def encode_constant(values: npt.NDArray[np.float32], spec: QSpec) -> Encoding:
    """The encoding of a constant: its exact extremes, per tensor, per index of an axis, or per block along one.

    A palette holds the values themselves. Symmetric grids of at most `FEW_BITS` bits are clipped, and scales of FP8
    moved within an octave, where that makes the squared error of the values less.
    """
    values = values.astype(np.float32, copy=False)
    shared = spec.granularity
    if spec.qtype.kind == "codebook":
        along, run = (shared.axis, shared.size) if isinstance(shared, PerGroup) else (0, 0)
        table, indices = palettes(values, 2**spec.qtype.bits, along, run)
        return Encoding(spec, np.ones((), np.float32), np.zeros((), np.int32), "k-means", indices, table)
    axis = None if isinstance(shared, PerTensor) else shared.axis
    block = shared.size if isinstance(shared, PerBlock) else None
    low, high = extremes(values, axis, block)
    kind = spec.qtype.kind
    many = spec.qtype.bits > FEW_BITS
    if axis is None or not (kind == "float" or (kind == "int" and spec.symmetric and not many)):
        return affine(low, high, spec, "minmax")
    dtype = helper.tensor_dtype_to_np_dtype(spec.qtype.onnx)
    grid = float_grid(spec.qtype.high, dtype) if kind == "float" else integer_grid(spec.low, spec.high)
    factors = PHASES if many else CLIP_FACTORS
    clip = np.maximum(-low, high) * mse_clip(values, axis, grid, block, factors)
    return affine(-clip, clip, spec, "mse")
