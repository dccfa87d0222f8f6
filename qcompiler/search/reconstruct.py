"""Weights rounded so that the results of their blocks are least off, given what the layers in front hand on.

    e = result of the block, quantized - in float             measured on samples, everything quantized
    minimise over the codes of one layer   E |e + s dc x|^2 = dc' H dc + 2 dc' g + const,  H = s^2 E[x x'], g = s E[x e]

x is what the layer reads with everything in front of it quantized, and dc the change of its codes, each of which stays
one of the two next to its weight. So a layer makes good, as far as rounding can, what activations and the layers in
front of it did wrong, which `adaround` does not see: there e is the error of the layer's own weights alone.

The block of a layer ends at the Add that its result goes into, if nothing else reads the result: a residual block is
reconstructed as a whole, error of the shortcut included. What lies between counts with derivative 1. Layers are gone
through in the order of the graph, each with what was chosen before in place. g is an average over samples, and has a
standard error: a change must gain more than what one such error would feign.

Source: Li et al., "BRECQ: pushing the limit of post-training quantization by block reconstruction" (ICLR 2021) for
blocks as units and for inputs from the quantized model; Nagel et al., "Up or down?" (ICML 2020), equation 25. Both
train rounding by gradient; with H and g at hand the error of every change is known exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompiler import ir
from qcompiler.analysis import Runner, SessionConfig
from qcompiler.analysis.observe import observed
from qcompiler.analysis.patch_moments import MOST, PLACES
from qcompiler.data import Sample
from qcompiler.numerics.adaround import F64, descended
from qcompiler.numerics.patches import Window, patches
from qcompiler.passes.lower.materialise import Materialise
from qcompiler.passes.plan.ada_round import codes_of, rows_of, weights, window_of
from qcompiler.pipeline import Pipeline
from qcompiler.quant import Encoding, QuantPlan, Site

Array = npt.NDArray[Any]


@dataclass(eq=False)
class Sums:
    """Over places: of x, e, and their products; x of (groups, K), e of (groups, rows)."""

    count: int = 0
    x: F64 | float = 0.0
    e: F64 | float = 0.0
    xx: F64 | float = 0.0
    ex: F64 | float = 0.0
    ee: F64 | float = 0.0

    def add(self, x: Array, e: Array) -> None:
        """Adds places: x of (groups, places, K), e of (groups, places, rows)."""
        x, e = x.astype(np.float64), e.astype(np.float64)
        self.count += x.shape[1]
        self.x, self.e = self.x + x.sum(1), self.e + e.sum(1)
        self.xx = self.xx + np.matmul(x.transpose(0, 2, 1), x)
        self.ex = self.ex + np.matmul(e.transpose(0, 2, 1), x)
        self.ee = self.ee + np.square(e).sum(1)

    def moments(self, *, centred: bool) -> tuple[F64, F64, F64]:
        """E[x x'], E[e x'] and E[e^2]; about the means where biases take these."""
        xx, ex, ee = (np.asarray(value, np.float64) / self.count for value in (self.xx, self.ex, self.ee))
        if centred:
            x, e = (np.asarray(value, np.float64) / self.count for value in (self.x, self.e))
            xx, ex = xx - x[:, :, None] * x[:, None, :], ex - e[:, :, None] * x[:, None, :]
            ee = ee - e**2
        return xx, ex, ee


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """Chooses codes of weights for a candidate.

    Attributes:
        planned: its float graph.
        samples: to look at.
        config: session settings.
        centred: biases take the mean error.
    """

    planned: ir.Model
    samples: Sequence[Sample]
    config: SessionConfig = field(default_factory=SessionConfig)
    centred: bool = True

    def plan(self, plan: QuantPlan) -> QuantPlan:
        """The plan with the codes of its weights chosen, layer after layer."""
        for node, site in weights(self.planned, plan):
            decision, window = plan.sites[site], window_of(node)
            encoding = decision.encoding
            if encoding is None or encoding.method == "given" or window is None:
                continue
            found = self._codes(plan, node, site, encoding, window)
            if found is not None:
                plan = plan.with_sites({site: replace(decision, encoding=replace(encoding, codes=found))})
        return plan

    def _codes(self, plan: QuantPlan, node: ir.Node, site: Site, encoding: Encoding, window: Window) -> Array | None:
        """Codes for the weight of one layer; None where it is too large or scaled, or where no code changes."""
        values = ir.array(node.inputs[1]).astype(np.float64)
        steps = rows_of(node, encoding, values, window.groups)
        low, high = encoding.spec.low, encoding.spec.high
        if steps.shape[0] * steps.shape[2] ** 2 > MOST or node.attrs.get("alpha", 1.0) != 1:
            return None
        start = np.clip(np.rint(steps), low, high)
        if encoding.codes is not None:
            unit = replace(encoding, scale=np.ones_like(encoding.scale))
            start = rows_of(node, unit, encoding.codes.astype(np.float64), window.groups)
        sums = self._sums(plan, node, window)
        if sums is None:
            return None
        unit_of = rows_of(node, encoding, np.ones_like(values), window.groups)[:, :, 0]  # 1 / step of each row
        xx, ex, ee = sums.moments(centred=self.centred and len(node.inputs) > 2 and bool(node.inputs[2].name))
        slope, noise = ex * unit_of[:, :, None], ee * unit_of**2
        feigned = np.sqrt(noise[:, :, None] * np.einsum("gkk->gk", xx)[:, None, :] / sums.count)
        found = descended(start, np.clip(steps, low, high), xx, low, high, slope=slope, toll=2 * feigned)
        return None if np.array_equal(found, start) else codes_of(node, encoding, found)

    def _sums(self, plan: QuantPlan, node: ir.Node, window: Window) -> Sums | None:
        """What the samples say of a layer; None where its input or its block cannot be observed."""
        target, model = block_of(node), self.planned.copy()
        Pipeline().graph(model, [Materialise(plan)])
        reads = next((n.inputs[0].name for n in model.nodes if n.name == node.name), "")
        quantized, floating = observed(model, [reads, target.name]), observed(self.planned, [target.name])
        if {reads, target.name} - quantized.outputs.keys() or target.name not in floating.outputs:
            return None
        names = [quantized.outputs[name] for name in (reads, target.name)]
        runner = Runner(quantized.payload, self.config, outputs=names)
        reference = Runner(floating.payload, self.config, outputs=[floating.outputs[target.name]])
        sums, groups = Sums(), window.groups
        single = Window((1,) * len(window.kernel), *((1,) * len(window.kernel),) * 2, (0,) * 2 * len(window.kernel))
        for sample in self.samples:
            x, after = (runner.run(sample.feed, sample=sample.name)[name] for name in names)
            before = reference.run(sample.feed, sample=sample.name)[floating.outputs[target.name]]
            if after.shape != before.shape:
                return None
            e = patches(after - before, single, PLACES)[0]
            sums.add(patches(x, window, PLACES), e.reshape(len(e), groups, -1).transpose(1, 0, 2))
        return sums


def block_of(node: ir.Node) -> ir.Tensor:
    """The result of a layer, or of the Add that alone reads it."""
    result = node.outputs[0]
    readers = list(result.outputs)
    if len(readers) != 1 or readers[0].op != "Add" or readers[0].domain:
        return result
    others = [tensor for tensor in readers[0].inputs if tensor is not result]
    alike = len(others) == 1 and not isinstance(others[0], ir.Constant) and others[0].shape == result.shape
    return readers[0].outputs[0] if alike and result.shape is not None else result
