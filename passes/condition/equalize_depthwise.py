"""Conv -> depthwise Conv: each channel in between is stretched, by a power of two, to the range of the largest.

    A -> [Relu] -> B, B depthwise:   A with weights and bias times 2^k_c,   B with weights divided by 2^k_c
    k_c = floor(log2(peak / peak_c)),   peak_c = max |x_c| over the samples, peak = the greatest of them

Relu(2^k x) = 2^k Relu(x), so the model computes the same, to the bit: powers of two move no digit. Between the two, one
scale serves all channels, and a channel whose values are 2^k times smaller has k bits less; afterwards every channel
uses at least half of the range. Weights pay nothing: both convolutions have a scale for each channel.

Clip(x, 0, h) in between is kept, and peak is h: a channel then saturates at h / 2^k, which is no less than the largest
value that it was seen to take, as its grid would make it saturate anyway.

Source: Nagel, van Baalen, Blankevoort, Welling, "Data-free quantization through weight equalization and bias
correction" (ICCV 2019), equation 7; the ranges of activations take the place of those of weights, which matter there
because one scale serves a whole weight.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from qcompiler import ir
from qcompiler.analysis.match import EQUALIZED
from qcompiler.numerics.observers import ChannelRange
from qcompiler.passes.condition.octaves import scale
from qcompiler.passes.plan.bounds import bounds
from qcompiler.pipeline import GraphPass, PassRecord
from qcompiler.quant import QuantPlan, Site
from qcompiler.rewrite import Refusal

# Channels that are all but dead are not stretched without end.
MOST_OCTAVES = 24


class Peaks(Protocol):
    """The part of the statistics that equalization needs."""

    def channel_range(self, tensor: str) -> ChannelRange | None:
        """Extremes by channel; None where they were not observed."""


@dataclass(frozen=True, eq=False)
class Pair:
    """Two convolutions.

    Attributes:
        first, second: A and B.
        between: what B reads.
        top: the upper bound of a Clip between them; None where there is no Clip.
    """

    first: ir.Node
    second: ir.Node
    between: ir.Tensor
    top: float | None


@dataclass(frozen=True)
class EqualizeDepthwise(GraphPass):
    """Stretches channels in front of depthwise convolutions that compute in integers.

    Attributes:
        plan: says which nodes do.
        peaks: extremes by channel of the values in between, under the names that they have in the graph.
        octaves: filled by the pass: k_c by the new name of each stretched value; its old name is in `renamed`.
        renamed: filled by the pass.
    """

    name: ClassVar[str] = "equalize-depthwise"
    plan: QuantPlan
    peaks: Peaks
    octaves: dict[str, npt.NDArray[np.int64]] = field(default_factory=dict)
    renamed: dict[str, str] = field(default_factory=dict)

    def apply(self, model: ir.Model, record: PassRecord) -> None:
        """Rewrites the main graph; values in between get new names, since they are others."""
        edit = ir.Editor(model, model.graph)
        for pair in list(pairs(model, self.plan)):
            seen = self.peaks.channel_range(pair.between.name)
            channels = pair.second.inputs[1].shape[0] if seen is None else seen.absmax.size
            if seen is None or pair.second.attrs.get("group", 1) != channels:
                reason = f"the channels of {pair.between.name!r} were not observed"
                record.refusals.append(Refusal(self.name, pair.second.name, reason))
                continue
            octaves = stretch(seen.absmax, pair.top)
            if not octaves.any():
                record.refusals.append(Refusal(self.name, pair.second.name, "its channels are alike"))
                continue
            for port in (1, 2):
                if port < len(pair.first.inputs) and pair.first.inputs[port].name:
                    scale(edit, pair.first, port, 0, octaves)
            scale(edit, pair.second, 1, 0, -np.repeat(octaves, pair.second.inputs[1].shape[0] // channels))
            old, made = pair.between.name, pair.first.outputs[0]
            if made is not pair.between:
                edit.rename(made, f"{made.name}{EQUALIZED}")
            edit.rename(pair.between, f"{old}{EQUALIZED}")
            self.renamed[pair.between.name], self.octaves[pair.between.name] = old, octaves
            record.changes += 1


def pairs(model: ir.Model, plan: QuantPlan) -> Iterator[Pair]:
    """The pairs of the main graph that compute in integers and hand on nothing else."""
    edit = ir.Editor(model, model.graph)
    for second in model.nodes:
        if not (integer(second, plan) and second.inputs[1].shape[1] == 1 and int(second.attrs.get("group", 1)) > 1):
            continue
        between = second.inputs[0]
        decision = plan.sites.get(Site(between.name))
        if decision is None or decision.encoding is not None or decision.same_as is not None:
            continue
        source, top = unbounded(edit, between)
        first = source.inputs[0] if source is not None and source.inputs else None
        if first is not None and integer(first, plan) and edit.only_use(between) is second:
            yield Pair(first, second, between, top)


def unbounded(edit: ir.Editor, tensor: ir.Tensor) -> tuple[ir.Tensor | None, float | None]:
    """What a Relu or Clip from 0 makes `tensor` of, and its upper bound; None for another lower bound."""
    node = tensor.inputs[0] if tensor.inputs else None
    if node is None or node.op not in ("Relu", "Clip"):
        return tensor, None
    limits = bounds(node)
    if limits is None or limits[0] != 0.0 or len(edit.uses(node.inputs[0])) != 1:
        return None, None
    return node.inputs[0], limits[1] if np.isfinite(limits[1]) else None


def integer(node: ir.Node, plan: QuantPlan) -> bool:
    """Whether this is a Conv with constant float32 weights of its own scale for each channel, computed in integers."""
    decision = plan.nodes.get(node.name)
    operands = [tensor for tensor in node.inputs[1:] if tensor.name]
    return (
        node.op == "Conv"
        and not node.domain
        and decision is not None
        and decision.precision == "int8"
        and all(isinstance(tensor, ir.Constant) and tensor.dtype == np.float32 for tensor in operands)
    )


def stretch(peaks: npt.NDArray[np.float32], top: float | None) -> npt.NDArray[np.int64]:
    """k_c, never negative; 0 for channels that are always 0."""
    peak = float(peaks.max(initial=0.0)) if top is None else top
    ratio = peak / np.where(peaks > 0, peaks, max(peak, 1.0)).astype(np.float64)
    octaves = np.where(peaks > 0, np.floor(np.log2(np.maximum(ratio, 1.0))), 0.0)
    return np.asarray(np.minimum(octaves, MOST_OCTAVES), np.int64)


def wanted_ranges(model: ir.Model, plan: QuantPlan) -> tuple[str, ...]:
    """The values whose extremes by channel are needed."""
    return tuple(pair.between.name for pair in pairs(model, plan))
