"""AveragePool(x; k, s, p) -> Conv(x, 1 / |k|; k, s, p, group = C), or GlobalAveragePool(x) where k is the whole image.

    padding counts, or there is none    Conv alone
    padding does not count              Conv, times a table of |k| / (elements inside), one for each window; the grid of
                                        the table holds its values exactly (3 x 3 windows: multiples of 1 / 4)

Exact but for rounding; the weight is one code per channel. It pays inside a quantized region: ONNX Runtime's integer
average is 12 to 20 times slower than the float one, the integer depthwise Conv as fast (fact sheet, rule 10; 64 x 40 x
40 between two 1 x 1 Convs: 3 x 3 window 163 us, float between Q and DQ 212 us, QLinearAveragePool 655 us). With tables:
a ShuffleNet of 3.5 ms takes 2.7 ms, an Inception of 11.3 ms takes 10.8 ms.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from qcompiler import ir
from qcompiler.passes.condition.integer_forms import region_with_forms, shares, whole_average
from qcompiler.passes.condition.stem import spatial
from qcompiler.pipeline import GraphPass, PassRecord
from qcompiler.quant import Encoding, QSpec, Site
from qcompiler.rewrite import Refusal
from qcompiler.targets import TargetSpec


@dataclass(frozen=True)
class AveragePoolToConv(GraphPass):
    """Rewrites the average pools that stand in a quantized region.

    Attributes:
        target: decides which nodes those are.
        spec: how activations are stored.
        keep_float: as in `annotate`.
        given: filled by the pass: the encodings of tables.
        aliases: filled by the pass: a pool that differs from a new tensor at the border alone.
    """

    name: ClassVar[str] = "average-pool-to-conv"
    target: TargetSpec
    spec: QSpec
    keep_float: tuple[str, ...] = ()
    given: dict[Site, Encoding] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)

    def apply(self, model: ir.Model, record: PassRecord) -> None:
        """Rewrites AveragePool nodes of the main graph; node and result keep their names."""
        pools = [node for node in model.nodes if node.op == "AveragePool" and not node.domain]
        if not pools:
            return
        region = region_with_forms(model, self.target, self.spec, self.keep_float)
        edit = ir.Editor(model, model.graph)
        for node in pools:
            if node.name in region.rules:
                self._rewrite(edit, node)
                record.changes += 1
            else:
                record.refusals.append(Refusal(self.name, node.name, region.refused[node.name]))

    def _rewrite(self, edit: ir.Editor, node: ir.Node) -> None:
        x, kernel = node.inputs[0], [int(k) for k in node.attrs["kernel_shape"]]
        if whole_average(node) is None:
            node.op = "GlobalAveragePool"
            node.attrs.clear()
            return
        uneven = None if node.attrs.get("count_include_pad", 0) or len(kernel) != 2 else shares(node)
        if len(kernel) == 2 and all(isinstance(size, int) for size in x.shape[2:]):
            _, node.attrs["pads"], _ = spatial(node)
            node.attrs.pop("auto_pad", None)
        channels = int(x.shape[1])
        for name in ("count_include_pad", "ceil_mode", "dilations"):
            node.attrs.pop(name, None)
        node.op = "Conv"
        node.attrs["group"] = channels
        weight = np.full((channels, 1, *kernel), 1 / math.prod(kernel), np.float32)
        edit.set_inputs(node, [x, edit.constant(f"{node.name}_weight", weight)])
        if uneven is not None and (uneven[0] != 1).any():
            self._multiply(edit, node, *uneven)

    def _multiply(self, edit: ir.Editor, node: ir.Node, table: npt.NDArray[np.float32], unit: int) -> None:
        """Multiplies the result by a table of integers divided by `unit`."""
        y = node.outputs[0]
        inner = edit.variable(f"{y.name}_even", y.dtype, y.shape)
        edit.set_outputs(node, [inner])
        factor = edit.constant(f"{node.name}_share", table[None, None])
        mul = edit.add("Mul", [inner, factor], name=f"{node.name}_border", outputs=[y])
        scale, zero = np.asarray(1 / unit, np.float32), np.asarray(self.spec.low, np.int32)
        self.given[Site(factor.name, mul.name, 1)] = Encoding(self.spec, scale, zero, "exact")
        self.aliases[inner.name] = y.name
