"""Weights whose products, added in pairs, fit in int16: for hardware that adds them there, with saturation.

    vpmaddubsw      sat16(x0 w0 + x1 w1), x in 0..X (uint8: X = 255), w in -128..127, pairs along the packed axis K
    exact iff       |w0 + w1| X <= 32767 for weights of one sign; weights of opposite signs never leave int16
    so              |w0 + w1| <= 32767 // X = 128

Where a pair of codes breaks the bound, the scale of its channel becomes the smallest float32 that keeps it: codes only
shrink when a scale grows, so that bisection finds it. No other channel changes. Seven bits for all weights are the
price that tools pay who do not look (`reduce_range`); here a channel pays what its worst pair asks.

How ONNX Runtime packs (source: onnxruntime/core/mlas/lib/x86_64/ConvSymKernelAvx2.S and QgemvU8S8KernelAvx2.S,
MlasConvSymPackW, QLinearConv::ReorderFilter): Conv by kernel position, then input channel, the latter fastest; MatMul
and Gemm by row; pairs start at even places. To be safe from another packing, every neighbour counts, at even and odd
places, for Conv also in the order of ONNX. Depthwise Conv multiplies in 16 bits and adds in 32: it needs nothing.

docs: ONNX Runtime, "Quantize ONNX models", data type selection; ONNX Runtime fact sheet, section 3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from qcompiler import ir
from qcompiler.passes.lower.codes import axis_of, nearest
from qcompiler.passes.plan.encode import encode_constant
from qcompiler.pipeline import PassRecord, PlanPass
from qcompiler.quant import Encoding, QuantPlan, Site, SitePlan
from qcompiler.quant.qtype import INT8

INT16 = 32767
UINT8 = 255
WEIGHT_PORTS = (1, 2)

Array = npt.NDArray[Any]
Arrange = Callable[[Array], Array]


@dataclass(frozen=True)
class AvoidSaturation(PlanPass):
    """Raises scales of int8 weights until no pair of products saturates. After `encode`, before `derive_bias`."""

    name: ClassVar[str] = "avoid-saturation"

    def apply(self, model: ir.Model, plan: QuantPlan, record: PassRecord) -> QuantPlan:
        """The plan with other scales for some weights; `why` says so of each, a note of all together."""
        done: dict[Site, SitePlan] = {}
        checked, coarsest = 0, 1.0
        for site, node, constant, old in paired(model, plan):
            checked += 1
            values = ir.array(constant).astype(np.float32, copy=False)
            limit = INT16 // largest_code(plan, node)
            new, worst = safe(values, old, node, limit)
            if new is old:
                continue
            # a moved zero point may bring finer steps; only coarser ones cost accuracy
            ratios = np.asarray(new.scale / old.scale, np.float64)
            coarsest = max(coarsest, float(ratios.max()))
            many = f"{int((ratios > 1).sum())} of {ratios.size} channels"
            said = f"steps up to {ratios.max():.2f} times coarser in {many}: pairs of codes summed up to {worst}"
            decision = plan.sites[site]
            done[site] = replace(decision, encoding=new, why=f"{decision.why}; {said}, over {limit}")
        record.changes = len(done)
        if done:
            record.notes.append(
                f"products of {len(done)} of {checked} layers could saturate int16 in pairs: the channels concerned "
                f"have steps up to {coarsest:.2f} times coarser (`why` of each weight)"
            )
        return plan.with_sites(done)


def paired(model: ir.Model, plan: QuantPlan) -> Iterator[tuple[Site, ir.Node, ir.Constant, Encoding]]:
    """The weights whose products with uint8 values are added in pairs, each with its reader and its encoding."""
    constants = {constant.name: constant for constant in model.constants()}
    nodes = {node.name: node for node in model.nodes}
    for site, decision in plan.quantized():
        node, constant, encoding = nodes.get(site.consumer), constants.get(site.tensor), decision.encoding
        if node is None or constant is None or encoding is None:
            continue
        if is_weight(site, encoding) and not is_depthwise(node):
            yield site, node, constant, encoding


def is_weight(site: Site, encoding: Encoding) -> bool:
    """Whether a quantized constant is the signed factor of uint8 values."""
    return site.port in WEIGHT_PORTS and encoding.spec.qtype == INT8


def is_depthwise(node: ir.Node) -> bool:
    """Conv with one input and one output channel in each group."""
    shape = node.inputs[1].shape
    return bool(node.op == "Conv" and shape[1] == 1 and shape[0] == node.attrs.get("group", 1))


def largest_code(plan: QuantPlan, node: ir.Node) -> int:
    """The largest code of the activations, which calibration does not bound: whatever comes saturates there."""
    x = node.inputs[0].name
    decision = plan.sites.get(Site(x, node.name, 0)) or plan.sites.get(Site(x))
    return UINT8 if decision is None or decision.choice is None else decision.choice.high


def safe(values: npt.NDArray[np.float32], encoding: Encoding, node: ir.Node, limit: int) -> tuple[Encoding, int]:
    """The encoding without saturating pairs, itself where it has none; and the largest sum that it had."""
    worst = largest_sum(codes_of(values, encoding), node, values)
    if worst <= limit:
        return encoding, worst
    if encoding.zero_point.any():  # codes that are not centred do not shrink with the scale
        encoding = encode_constant(values, replace(encoding.spec, symmetric=True))
    encoding = replace(encoding, codes=None)
    pairs = broken_pairs(values, encoding, node, limit)
    if not pairs[0].size:
        return encoding, worst
    scale = smallest_scale(*pairs, encoding, limit)
    return replace(encoding, scale=scale.reshape(encoding.scale.shape)), worst


def smallest_scale(
    first: npt.NDArray[np.float32], second: npt.NDArray[np.float32], channel: Array, encoding: Encoding, limit: int
) -> npt.NDArray[np.float32]:
    """The smallest float32 scale of each channel that keeps the pairs (first, second) of `channel` within the limit."""
    spec, low = encoding.spec, encoding.scale.reshape(-1).copy()

    def broken(scale: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
        steps = [np.clip(np.rint(values / scale[channel]), spec.low, spec.high) for values in (first, second)]
        found = np.zeros(scale.shape, np.bool_)
        found[channel[np.abs(steps[0] + steps[1]) > limit]] = True
        return found

    sums = np.zeros(low.shape, np.float64)
    np.maximum.at(sums, channel, np.abs(first.astype(np.float64) + second))
    concerned = broken(low)
    # two roundings add at most one step
    high = np.where(concerned, np.maximum(low, (sums / (limit - 1)).astype(np.float32)), low)
    while (bad := broken(high)).any():
        high = np.where(bad, high * np.float32(1.0 + 2.0**-20), high)
    # positive floats are ordered as their bits are
    least, most = low.view(np.int32).astype(np.int64), high.astype(np.float32).view(np.int32).astype(np.int64)
    while (most - least > 1).any():
        middle = (least + most) // 2
        bad = broken(middle.astype(np.int32).view(np.float32))
        least, most = np.where(bad, middle, least), np.where(bad, most, middle)
    return np.where(concerned, most.astype(np.int32).view(np.float32), low)


# ---- pairs
def arrangements(node: ir.Node, values: Array) -> Iterator[Arrange]:
    """Ways to lay weights out as rows (any, K), so that what the hardware adds stands side by side."""
    if node.op == "Conv":
        yield lambda w: np.moveaxis(w, 1, -1).reshape(w.shape[0], -1)
        yield lambda w: w.reshape(w.shape[0], -1)
    elif node.op == "MatMul" or (node.op == "Gemm" and not node.attrs.get("transB", 0)):
        yield lambda w: np.swapaxes(w, -1, -2).reshape(-1, w.shape[-2]) if w.ndim > 1 else w.reshape(1, -1)
    elif node.op in ("Gemm", "LSTM", "GRU", "RNN"):
        yield lambda w: w.reshape(-1, w.shape[-1])
    else:  # packing is not known: the largest beside each other, whatever the order
        order = np.argsort(values, axis=None, kind="stable")
        yield lambda w: w.reshape(-1)[order].reshape(1, -1)


def largest_sum(codes: Array, node: ir.Node, values: Array) -> int:
    """The largest |w0 + w1| of neighbours."""
    return max(int(np.abs(sums_of(arrange(codes))).max(initial=0)) for arrange in arrangements(node, values))


def broken_pairs(
    values: npt.NDArray[np.float32], encoding: Encoding, node: ir.Node, limit: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], Array]:
    """Values and channel of every pair over the limit."""
    codes, channels = codes_of(values, encoding), channels_of(values.shape, encoding)
    found: list[tuple[Array, Array, Array]] = []
    for arrange in arrangements(node, values):
        bad = np.abs(sums_of(arrange(codes))) > limit
        rows = arrange(values)
        found.append((rows[:, :-1][bad], rows[:, 1:][bad], arrange(channels)[:, :-1][bad]))
    first, second, channel = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return first, second, channel


def sums_of(codes: Array) -> npt.NDArray[np.int16]:
    """Sums of neighbours in rows."""
    wide = codes.astype(np.int16)
    return np.asarray(wide[:, :-1] + wide[:, 1:], np.int16)


def codes_of(values: npt.NDArray[np.float32], encoding: Encoding) -> Array:
    """Integer codes."""
    return encoding.codes if encoding.codes is not None else nearest(values, encoding)


def channels_of(shape: tuple[int, ...], encoding: Encoding) -> Array:
    """For each weight the index of its scale."""
    axis = axis_of(encoding)
    if axis is None:
        return np.broadcast_to(np.int32(0), shape)
    form = [-1 if i == axis else 1 for i in range(len(shape))]
    return np.broadcast_to(np.arange(shape[axis], dtype=np.int32).reshape(form), shape)
