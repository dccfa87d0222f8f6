"""Ranges of activations chosen one after the other, by what each does to the model's outputs.

    damage(r) = noise / signal, summed over the outputs, with every tensor quantized, tensor t to range r
    range of t = the r of least damage among those of the range methods, where that is less by `LESS`

Each method gives the range that is best for the tensor by itself, or for the layers that read it; which method is right
depends on what the rest of the network makes of rounding and of clipping, which only its outputs say. All tensors are
gone through once, with what was chosen before in place. The quantized model is made once, with the scales and zero
points of its activations as inputs, so that another range is another feed. Tensors for which methods differ most come
first, and as many are tried as the runs allow.

Criterion for one tensor: Banner, Nahshon, Soudry, "Post training 4-bit quantization of convolutional networks" (2019);
by the loss of the whole network, one coordinate at a time: Nahshan et al., "Loss aware post-training quantization"
(2021).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from glob import escape
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompiler import ir
from qcompiler.analysis import Runner, SessionConfig
from qcompiler.analysis.run import is_float
from qcompiler.data import Sample
from qcompiler.numerics import SqnrMeter
from qcompiler.passes.lower.codes import np_dtype
from qcompiler.passes.lower.materialise import Materialise
from qcompiler.passes.plan.encode import Encode, Ranges
from qcompiler.pipeline import Pipeline
from qcompiler.quant import Encoding, QuantPlan, Site
from qcompiler.search.candidates import Candidate, Draft

METHODS = ("auto", "minmax", "percentile", "mse", "entropy")
# A range must lower the damage by this share to be taken: less is chance.
LESS = 0.02
# Scales nearer than this are one range.
ALIKE = 0.03
# Samples that say what a range does.
SAMPLES = 8

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Opened:
    """A quantized model whose activations take their scales from the feed.

    Attributes:
        model: with two inputs more for each of `places`.
        places: names of scale and zero point, by the root of the activation.
    """

    model: ir.Model
    places: Mapping[Site, tuple[str, str]]

    def feed(self, encodings: Mapping[Site, Encoding]) -> dict[str, Array]:
        """What the inputs for some ranges are."""
        found: dict[str, Array] = {}
        for root, (scale, zero_point) in self.places.items():
            encoding = encodings[root]
            found[scale] = np.asarray(encoding.scale, np.float32)
            found[zero_point] = np.asarray(encoding.zero_point, np_dtype(encoding))
        return found


def opened(planned: ir.Model, plan: QuantPlan, roots: Sequence[Site]) -> Opened:
    """The model of a plan, ranges of some groups left open; those whose pairs are not plain are left as they are."""
    model = planned.copy()
    Pipeline().graph(model, [Materialise(plan)])
    edit, places = ir.Editor(model, model.graph), dict[Site, tuple[str, str]]()
    owner, groups = dict[str, set[Site]](), plan.groups()
    for root, members in groups.items():
        for site in members:
            owner.setdefault(site.tensor, set()).add(root)
    pairs: dict[Site, list[ir.Node]] = {}
    for node in model.nodes:
        if node.op == "QuantizeLinear" and len(mine := owner.get(node.inputs[0].name, set())) == 1:
            pairs.setdefault(next(iter(mine)), []).append(node)
    for root in roots:
        encoding, members = plan.sites[root].encoding, groups[root]
        if encoding is None or root not in pairs or any(plan.gain(site) != 1 for site in members):
            continue
        scale = edit.given(f"{root.tensor}_range_scale", np.dtype(np.float32), ())
        zero_point = edit.given(f"{root.tensor}_range_zero", np_dtype(encoding), ())
        for quantize in pairs[root]:
            for node in (quantize, *(use.node for use in edit.uses(quantize.outputs[0]) if use.node is not None)):
                edit.set_input(node, 1, scale)
                edit.set_input(node, 2, zero_point)
        places[root] = scale.name, zero_point.name
    return Opened(model, places)


@dataclass(eq=False)
class ClipActivations:
    """Chooses range methods tensor by tensor for a candidate.

    Attributes:
        draft, stats: what the candidate was made of, equalized.
        config: session settings.
        runs: how often the model may be run.
    """

    draft: Draft
    stats: Ranges
    config: SessionConfig
    runs: int
    tried: int = field(default=0, init=False)

    def chosen(
        self, base: Candidate, methods: Mapping[str, str], original: ir.Model, samples: Sequence[Sample]
    ) -> dict[str, str]:
        """Other methods by pattern of the tensor; empty where nothing is better."""
        found = self._found(base, methods)
        current = {root: encoding for root in found if (encoding := base.plan.sites[root].encoding) is not None}
        options = {root: distinct(current[root], found[root]) for root in current}
        spread = {
            root: max((far(current[root], e) for e in some.values()), default=0.0) for root, some in options.items()
        }
        order = sorted((root for root in options if options[root]), key=lambda root: -spread[root])
        model = opened(base.planned, base.plan, order)
        order = [root for root in order if root in model.places]
        if not order:
            return {}
        each = min(SAMPLES, len(samples))
        runner, some = Runner(model.model, self.config), samples[:: max(1, len(samples) // each)][:each]
        floating = Runner(original, self.config)
        wanted = [floating.run(sample.feed, sample=sample.name) for sample in some]

        def damage(encodings: Mapping[Site, Encoding]) -> float:
            self.tried += len(some)
            ranges = model.feed(encodings)
            got = [runner.run({**sample.feed, **ranges}, sample=sample.name) for sample in some]
            return noise(wanted, got)

        best, chosen = damage(current), dict[str, str]()
        for root in order:
            for method, encoding in options[root].items():
                if self.tried + len(some) > self.runs:
                    return chosen
                less = damage({**current, root: encoding})
                if less < (1 - LESS) * best:
                    best, current = less, {**current, root: encoding}
                    chosen[escape(self.draft.aliases.get(root.tensor, root.tensor))] = method
        return chosen

    def _found(self, base: Candidate, methods: Mapping[str, str]) -> dict[Site, dict[str, Encoding]]:
        """The encoding of each activation by each method; those whose method the user has chosen have one."""
        constants, groups = {constant.name for constant in base.planned.constants()}, base.plan.groups()
        found: dict[Site, dict[str, Encoding]] = {}
        for method in METHODS:
            plan = Pipeline().plan(
                self.draft.model, self.draft.plan, [Encode(self.stats, method, methods, self.draft.aliases)]
            )
            for root, members in plan.groups().items():
                if groups.get(root) != members:
                    continue  # shared by more, in front of a Concat
                encoding, mine = plan.sites[root].encoding, base.plan.sites[root].encoding
                if encoding is None or mine is None or root.tensor in constants or mine.method == "given":
                    continue
                if not encoding.scale.ndim and encoding.spec.qtype.kind == "int" and encoding.spec == mine.spec:
                    found.setdefault(root, {})[method] = encoding
        return found


def distinct(current: Encoding, options: Mapping[str, Encoding]) -> dict[str, Encoding]:
    """Those that differ from the present encoding and from each other."""
    kept: dict[str, Encoding] = {}
    for method, encoding in options.items():
        if all(far(encoding, other) > ALIKE for other in (current, *kept.values())):
            kept[method] = encoding
    return kept


def far(one: Encoding, other: Encoding) -> float:
    """How much two ranges differ: by the ends, in parts of the wider one."""
    ends = [float(np.abs(np.subtract(one.range[i], other.range[i])).max()) for i in range(2)]
    widths = [float(np.subtract(e.range[1], e.range[0]).max()) for e in (one, other)]
    return max(ends) / max(max(widths), 1e-30)


def noise(wanted: Sequence[Mapping[str, Array]], got: Sequence[Mapping[str, Array]]) -> float:
    """Noise over signal, summed over the float outputs."""
    meters: dict[str, SqnrMeter] = {}
    for before, after in zip(wanted, got, strict=True):
        for name, value in before.items():
            if is_float(value) and name in after:
                meters[name] = meters.get(name, SqnrMeter()).update(value, after[name])
    return math.fsum(meter.noise / meter.signal if meter.signal > 0 else 0.0 for meter in meters.values())
