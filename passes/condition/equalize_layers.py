"""Channels of a value stretched by powers of two between the layer that makes it and the layers that read it.

    A -> [Relu, LeakyRelu, PRelu] -> B, C, ...      A: Conv, Gemm, LayerNormalization, RMSNormalization
    A with weights and bias of channel c times 2^k_c,   B, C, ... with the weights that read channel c times 2^-k_c

f(2^k x) = 2^k f(x) holds for these activations and for no stretch elsewhere: a Clip, HardSwish, Add or pool in between,
another reader, or a value that is an output of the model, and the pair is left alone. So it is where the activation
reads from a grid of its own, which negative values, stretched alike, would leave. k_c is chosen by the noise that it
leaves (`numerics/migrate`), over all readers together.

Never through an Add: the other operand would have to be stretched alike, and with it everything that it is made of.

Source: see `numerics/migrate`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from qcompiler import ir
from qcompiler.analysis.match import EQUALIZED
from qcompiler.numerics.channel_histogram import ChannelHistogram
from qcompiler.numerics.histogram import Histogram
from qcompiler.numerics.migrate import octaves
from qcompiler.numerics.observers import ChannelRange
from qcompiler.passes.condition.octaves import multiply, scale
from qcompiler.pipeline import GraphPass, PassRecord
from qcompiler.quant import QuantPlan, Site
from qcompiler.rewrite import Refusal

F64 = npt.NDArray[np.float64]
HOMOGENEOUS = ("Relu", "LeakyRelu", "PRelu")


class Seen(Protocol):
    """The part of the statistics that this needs."""

    def histogram(self, tensor: str) -> Histogram:
        """Of a tensor."""

    def channels(self, tensor: str, axis: int) -> ChannelHistogram | None:
        """Whose values it holds."""

    def channel_range(self, tensor: str, axis: int = 1) -> ChannelRange | None:
        """Extremes by channel; None where they were not observed."""


@dataclass(frozen=True, eq=False)
class Stretch:
    """A value that can be stretched.

    Attributes:
        tensor: the value.
        axis: of its channels: 1, or -1 behind Gemm and normalizations.
        maker: A.
        ports: constants of A that make it: each with its axis of output channels; none where a node is to be added.
        readers: B, C, ...
    """

    tensor: ir.Tensor
    axis: int
    maker: ir.Node
    ports: Mapping[int, int]
    readers: tuple[ir.Node, ...]


@dataclass(frozen=True)
class EqualizeLayers(GraphPass):
    """Stretches values that quantized layers read.

    Attributes:
        plan: says which nodes are quantized.
        seen: statistics of the values, under the names that they have in the graph.
        octaves, axes, renamed: filled by the pass: k_c, channel axis and old name, by the new name of each value.
    """

    name: ClassVar[str] = "equalize-layers"
    plan: QuantPlan
    seen: Seen
    octaves: dict[str, npt.NDArray[np.int64]] = field(default_factory=dict)
    axes: dict[str, int] = field(default_factory=dict)
    renamed: dict[str, str] = field(default_factory=dict)

    def apply(self, model: ir.Model, record: PassRecord) -> None:
        """Rewrites the main graph; stretched values get new names, since they are others."""
        edit = ir.Editor(model, model.graph)
        for place in list(self.places(model)):
            name, weights = place.tensor.name, [by_input(node) for node in place.readers]
            ends, held = self.seen.channel_range(name, place.axis), self.seen.channels(name, place.axis)
            if ends is None or held is None or any(part.shape[0] != ends.minimum.size for part in weights):
                reason = f"the channels of {name!r} were not observed"
                record.refusals.append(Refusal(self.name, place.maker.name, reason))
                continue
            found = self.chosen(place, ends, held)
            if not found.any():
                record.refusals.append(Refusal(self.name, place.maker.name, "no stretch makes its readers less noisy"))
                continue
            for port, axis in place.ports.items():
                scale(edit, place.maker, port, axis, found)
            value = place.tensor if place.ports else multiplied(edit, place, found)
            for node in place.readers:
                shrink(edit, node, found)
            for made in place.maker.outputs[:1] if place.ports and place.maker.outputs[0] is not value else ():
                edit.rename(made, f"{made.name}{EQUALIZED}")
            edit.rename(value, f"{name}{EQUALIZED}")
            self.renamed[value.name] = name
            self.octaves[value.name], self.axes[value.name] = found, place.axis
            record.changes += 1

    def places(self, model: ir.Model) -> Iterator[Stretch]:
        """The values to look at."""
        return stretches(model, self.plan)

    def chosen(self, place: Stretch, ends: ChannelRange, held: ChannelHistogram) -> npt.NDArray[np.int64]:
        """k_c; zeros where no stretch gains enough."""
        low, high = ends.minimum.astype(np.float64), ends.maximum.astype(np.float64)
        squares = held.mean_squares(self.seen.histogram(place.tensor.name))
        return octaves(low, high, squares, [by_input(node) for node in place.readers])


def multiplied(edit: ir.Editor, place: Stretch, k: npt.NDArray[np.int64]) -> ir.Tensor:
    """The value times 2^k_c by a node of its own, for the readers of a place."""
    factors = edit.constant(f"{place.tensor.name}_stretch", np.ldexp(np.float32(1), k.astype(np.int32)))
    node = edit.add("Mul", [place.tensor, factors], name=f"{place.tensor.name}_stretched", like=place.tensor)
    for reader in place.readers:
        edit.set_input(reader, 0, node.outputs[0])
    return node.outputs[0]


def stretches(model: ir.Model, plan: QuantPlan, kinds: tuple[str, ...] = ("int8",)) -> Iterator[Stretch]:
    """The values of the main graph that only layers of these precisions read, and that a layer makes."""
    edit, stored = ir.Editor(model, model.graph), {site.tensor for site in plan.sites}
    for node in model.nodes:
        if node.domain or not node.outputs:
            continue
        ports, axis = makes(node)
        if not ports or not all(fixed(node, port) for port in ports):
            continue
        value = node.outputs[0]
        follower = edit.only_use(value)
        if follower is not None and follower.op in HOMOGENEOUS and not follower.domain and plain(follower):
            if value.name in stored:
                continue
            value = follower.outputs[0]
        uses = edit.uses(value)
        readers = tuple(use.node for use in uses if use.node is not None and use.port == 0)
        if uses and len(readers) == len(uses) and all(reads(reader, axis, plan, kinds) for reader in readers):
            found = Stretch(value, axis, node, ports, readers)
            if not trained(found, plan):
                yield found


def makes(node: ir.Node) -> tuple[dict[int, int], int]:
    """The constants whose channels are those of the result, each with its channel axis; and the result's axis."""
    given = [port for port, tensor in enumerate(node.inputs) if tensor.name]
    match node.op:
        case "Conv":
            return {port: 0 for port in given if port in (1, 2)}, 1
        case "Gemm" if float(node.attrs.get("beta", 1.0)) == 1.0:
            return {1: 0 if node.attrs.get("transB", 0) else 1, **({2: -1} if 2 in given else {})}, -1
        case "LayerNormalization" | "RMSNormalization" if int(node.attrs.get("axis", -1)) == -1 and 1 in given:
            return {port: 0 for port in given if port in (1, 2)}, -1
    return {}, 1


def reads(node: ir.Node, axis: int, plan: QuantPlan, kinds: tuple[str, ...] = ("int8",)) -> bool:
    """Whether a quantized layer sums over this axis of its first input with weights of its own."""
    decision = plan.nodes.get(node.name)
    if decision is None or decision.precision not in kinds or node.domain or not fixed(node, 1):
        return False
    if node.op == "Conv":
        return axis == 1 and (int(node.attrs.get("group", 1)) == 1 or node.inputs[1].shape[1] > 1)
    matrix = node.op == "MatMul" or (node.op == "Gemm" and not node.attrs.get("transA", 0))
    return matrix and axis == -1 and len(node.inputs[1].shape) == 2


def fixed(node: ir.Node, port: int) -> bool:
    """Whether an operand is a float32 constant with channels."""
    tensor = node.inputs[port] if port < len(node.inputs) else None
    return isinstance(tensor, ir.Constant) and tensor.dtype == np.float32 and len(tensor.shape) > 0


def plain(node: ir.Node) -> bool:
    """Whether an activation's slope, where it has one, is a constant: PRelu."""
    return node.op != "PRelu" or isinstance(node.inputs[1], ir.Constant)


def trained(place: Stretch, plan: QuantPlan) -> bool:
    """Whether the model came with an encoding of the value, of one of its uses, or of a weight that would change."""
    name = place.tensor.name
    sites = [Site(name), *(Site(name, node.name, 0) for node in place.readers)]
    sites += [Site(node.inputs[1].name, node.name, 1) for node in place.readers]
    sites += [Site(place.maker.inputs[port].name, place.maker.name, port) for port in place.ports]
    return any(site in plan.sites and plan.sites[site].encoding is not None for site in sites)


def by_input(node: ir.Node) -> F64:
    """Weights as (input channel, row, tap)."""
    values = ir.array(node.inputs[1]).astype(np.float64)
    if node.op != "Conv":
        rows = values.T if node.op == "Gemm" and node.attrs.get("transB", 0) else values
        return np.asarray(rows[:, :, None])
    group = int(node.attrs.get("group", 1))
    parts = values.reshape(group, -1, *values.shape[1:2], int(np.prod(values.shape[2:])))
    return np.asarray(parts.transpose(0, 2, 1, 3).reshape(-1, parts.shape[1], parts.shape[3]))


def shrink(edit: ir.Editor, node: ir.Node, k: npt.NDArray[np.int64]) -> None:
    """Multiplies the weights that read channel c by 2^-k_c."""
    if node.op != "Conv":
        scale(edit, node, 1, 1 if node.op == "Gemm" and node.attrs.get("transB", 0) else 0, -k)
        return
    group = int(node.attrs.get("group", 1))
    mine = np.repeat(k.reshape(group, -1), node.inputs[1].shape[0] // group, axis=0)
    multiply(edit, node, 1, -mine.reshape(*mine.shape, *[1] * (len(node.inputs[1].shape) - 2)))
