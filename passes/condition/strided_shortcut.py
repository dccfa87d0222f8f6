"""x[:, :, ::s, ::t] -> MaxPool(x; 1 x 1, strides s, t); with a Pad of channels behind it, Conv(x; identity). Exact.

    Pad(x[:, :, ::s, ::t], b channels before, a behind)  ->  Conv(x, W; 1 x 1, strides s, t), W[b + c, c] = 1, else 0

The shortcut of the residual networks for CIFAR (He et al. 2016, option A). On uint8 a Slice with steps takes 2.4 times
as long as on float, and Pad has no integer kernel (docs: ONNX Runtime fact sheet, sections 2.3 and 8), so the residual
Add would stay float. The Conv stores its result on the grid of x: its codes are those of x.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from qcompiler import ir
from qcompiler.passes.condition.integer_forms import channel_pads, region_with_forms
from qcompiler.passes.condition.strided import Strided, strided
from qcompiler.pipeline import GraphPass, PassRecord
from qcompiler.quant import QSpec
from qcompiler.rewrite import Refusal
from qcompiler.targets import TargetSpec


@dataclass(frozen=True)
class StridedShortcut(GraphPass):
    """Rewrites strided slices, and pads of channels behind them, that stand in a quantized region.

    Attributes:
        target: decides which nodes those are.
        spec: how activations are stored.
        keep_float: as in `annotate`.
        aliases: filled by the pass: the source of the slices, of which a padded result holds a part, and zeros.
    """

    name: ClassVar[str] = "strided-shortcut"
    target: TargetSpec
    spec: QSpec
    keep_float: tuple[str, ...] = ()
    aliases: dict[str, str] = field(default_factory=dict)

    def apply(self, model: ir.Model, record: PassRecord) -> None:
        """Rewrites the last node of each chain in place; node and result keep their names."""
        ends = [node for node in model.nodes if node.op in ("Pad", "Slice") and _chain(node) is not None]
        if not ends:
            return
        region = region_with_forms(model, self.target, self.spec, self.keep_float)
        edit = ir.Editor(model, model.graph)
        for node in sorted(ends, key=lambda node: node.op != "Pad"):
            chain = _chain(node)
            if chain is None or not edit.holds(node) or (node.op == "Slice" and _inside(edit, node)):
                continue
            float_node = next((n for n in (node, *chain.nodes) if n.name not in region.rules), None)
            if float_node is not None:
                record.refusals.append(
                    Refusal(self.name, node.name, region.refused.get(float_node.name, "stays float"))
                )
                continue
            self._rewrite(edit, node, chain)
            record.changes += 1

    def _rewrite(self, edit: ir.Editor, node: ir.Node, chain: Strided) -> None:
        strides = [chain.steps.get(axis, 1) for axis in (2, 3)]
        pads = channel_pads(node) if node.op == "Pad" else None
        node.attrs.clear()
        node.attrs.update({"kernel_shape": [1, 1], "strides": strides})
        if pads is None:
            node.op = "MaxPool"
            edit.set_inputs(node, [chain.source])
        else:
            channels = int(chain.source.shape[1])
            weight = np.zeros((sum(pads) + channels, channels, 1, 1), np.float32)
            weight[pads[0] + np.arange(channels), np.arange(channels)] = 1
            node.op = "Conv"
            edit.set_inputs(node, [chain.source, edit.constant(f"{node.name}_identity", weight)])
            self.aliases[node.outputs[0].name] = self.aliases.get(chain.source.name, chain.source.name)
        for slice_node in chain.nodes:
            if slice_node is not node and not edit.uses(slice_node.outputs[0]):
                edit.erase(slice_node)


def _chain(node: ir.Node) -> Strided | None:
    """The slices that a Pad of channels reads, or that end in a Slice."""
    if node.domain or not node.outputs:
        return None
    tensor = node.outputs[0] if node.op == "Slice" else node.inputs[0]
    chain = strided(tensor)
    if chain is None or not chain.spatial:
        return None
    if node.op == "Pad":
        return chain if channel_pads(node) is not None and isinstance(chain.source.shape[1], int) else None
    return chain


def _inside(edit: ir.Editor, node: ir.Node) -> bool:
    """Whether the result of a Slice only goes into another one that is rewritten with it."""
    reader = edit.only_use(node.outputs[0])
    if reader is None or reader.op not in ("Slice", "Pad"):
        return False
    chain = _chain(reader)
    return chain is not None and node in chain.nodes
