"""Conv(x, W; g groups) -> Conv(x, W'; g / m groups), W' with zeros between channels of different old groups. Exact.

ONNX Runtime's integer Conv copies the window of each group before it multiplies. With c channels of x in a group, the
time for a pixel and a tap was, in ns, for C channels of x and D of the result,

    C (4.1 / c + 0.041) + 0.0044 D c        copies, products

which is least around c = 30: below, more products with zero are cheaper than more copies. A pointwise Conv of one group
copies nothing. Measured for 3 x 3, 256
channels, 14 x 14: c = 8: 274 us, 16: 159, 32: 130, 64: 174, 128: 290; float with c = 8: 239. Depthwise Convs have a
kernel of their own and stay.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from qcompiler import ir
from qcompiler.passes.plan.region import choose
from qcompiler.pipeline import GraphPass, PassRecord
from qcompiler.rewrite import Refusal
from qcompiler.targets import TargetSpec

COPY, BYTE, PRODUCT = 4.1, 0.041, 0.0044
WORTH = 0.9
"""A merge must take less than this share of the time."""


@dataclass(frozen=True)
class MergeGroups(GraphPass):
    """Merges groups of convolutions that compute in integers.

    Attributes:
        target: decides which nodes those are.
        keep_float: as in `annotate`.
        aliases: filled by the pass: the weight whose channels a new one has.
    """

    name: ClassVar[str] = "merge-groups"
    target: TargetSpec
    keep_float: tuple[str, ...] = ()
    aliases: dict[str, str] = field(default_factory=dict)

    def apply(self, model: ir.Model, record: PassRecord) -> None:
        """Rewrites Conv nodes of the main graph in place."""
        grouped = [node for node in model.nodes if node.op == "Conv" and not node.domain and has_groups(node)]
        if not grouped:
            return
        region = choose(model, self.target, "int8", self.keep_float)
        edit = ir.Editor(model, model.graph)
        for conv in grouped:
            if conv.name not in region.rules:
                continue
            group, weight = int(conv.attrs["group"]), conv.inputs[1]
            times = best_merge(group, weight.shape[1], weight.shape[0], pointwise(conv))
            if times == 1:
                reason = f"no merge of the {group} groups of Conv {conv.name!r} is faster"
                record.refusals.append(Refusal(self.name, conv.name, reason))
                continue
            merged = edit.constant(f"{weight.name}_merged", spread(ir.array(weight), group, times))
            self.aliases[merged.name] = weight.name
            conv.attrs["group"] = group // times
            edit.set_input(conv, 1, merged)
            record.changes += 1


def has_groups(conv: ir.Node) -> bool:
    """Whether the Conv has groups of constant weights, and is not depthwise."""
    weight, group = conv.inputs[1], int(conv.attrs.get("group", 1))
    return group > 1 and isinstance(weight, ir.Constant) and not (weight.shape[1] == 1 and weight.shape[0] == group)


def pointwise(conv: ir.Node) -> bool:
    """Whether the Conv reads single pixels, all of them."""
    single = all(size == 1 for size in conv.inputs[1].shape[2:])
    return single and all(n == 1 for n in conv.attrs.get("strides", ())) and not any(conv.attrs.get("pads", ()))


def cost(group: int, inputs: int, outputs: int, single: bool = False) -> float:
    """Nanoseconds for a pixel and a tap.

    Args:
        group: number of groups.
        inputs: channels of x in each group.
        outputs: channels of the result in all.
        single: the Conv is `pointwise`; then one group is not copied.
    """
    copies = 0.0 if single and group == 1 else group * inputs * (COPY / inputs + BYTE)
    return copies + PRODUCT * outputs * inputs


def best_merge(group: int, inputs: int, outputs: int, single: bool = False) -> int:
    """How many groups should become one; 1 where none."""

    def merged(times: int) -> float:
        return cost(group // times, inputs * times, outputs, single)

    best = min((times for times in range(1, group + 1) if group % times == 0), key=merged)
    return best if merged(best) < WORTH * merged(1) else 1


def spread(weight: npt.NDArray[np.float32], group: int, times: int) -> npt.NDArray[np.float32]:
    """The weight (O, I, ...) of `group` groups as one of `group / times` groups: (O, times I, ...)."""
    outputs, inputs, *kernel = weight.shape
    parts = weight.reshape(group // times, times, outputs // group, inputs, *kernel)
    merged = np.zeros((group // times, times, outputs // group, times, inputs, *kernel), np.float32)
    for i in range(times):
        merged[:, i, :, i] = parts[:, i]
    return merged.reshape(outputs, times * inputs, *kernel)
