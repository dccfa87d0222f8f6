"""Which of the bits that a precision and its relief offer each layer gets, so that weights keep an average.

    minimise   sum_l harm[l, b(l)]
    so that    sum_l b(l) n(l) <= average * sum_l n(l)        n: weights of a layer

solved exactly (`knapsack`). Bits are those of codes, as a precision's name counts them; scales are as many for any
bits, and zero points have the bits of codes, so that a model of B bits on average is no larger than one with B
everywhere. Tables keep their own, also where a layer multiplies with one. A weight that several layers multiply with
is one layer.

    with samples   harm is what the layer alone does to the model's outputs in those bits (`sensitivity`): the KL
                   divergence of its class scores where it has such, else noise over signal
    else           the squared error of a layer's weights as a share of their squares, on some of its rows; where
                   weights stay on disk, too

That a layer's harm is its own relative error times a constant is the linearity theorem of HIGGS (Malinovskii et al.,
"Pushing the Limits of LLM Quantization via the Linearity Theorem", 2024), which measures the constants; without samples
they count as equal.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from qcompiler import ir
from qcompiler.data import Sample
from qcompiler.numerics.block_rounding import round_blocks
from qcompiler.passes.plan.encode_blocks import block_size, blocked, in_tables, levels, rows_of
from qcompiler.quant import NodePlan, Precision, QSpec, Site
from qcompiler.search.attempts import Attempts
from qcompiler.search.candidates import Candidate, Draft
from qcompiler.search.groups import aligned, groups_of
from qcompiler.search.knapsack import least_harm
from qcompiler.search.mix import Evidence
from qcompiler.search.options import drafter_in
from qcompiler.search.owners import owner_of
from qcompiler.search.ranking import RUINED, ranked_each
from qcompiler.search.sensitivity import Sensitivity
from qcompiler.search.sweep import Asking, sweep

SAMPLES = 8
ROWS = 256
"""Of a weight, that its error is taken from where there are no samples, about."""
PIECES = 8


@dataclass(frozen=True)
class Layer:
    """What gets bits together.

    Attributes:
        sites: the uses of one weight, in the draft of any option.
        numbers: in it.
        specs: how it is stored, by option.
    """

    sites: tuple[Site, ...]
    numbers: int
    specs: Mapping[Precision, QSpec]

    def size(self, option: Precision) -> int:
        """Bits of all codes."""
        return self.numbers * self.specs[option].qtype.bits


def allot(attempts: Attempts, precision: Precision) -> Evidence | None:
    """Where the target states an average, has the attempts give each layer of a precision its bits, with the reason.

    Returns:
        What was measured for it; None where that was weights alone, or nothing.

    Raises:
        DataError: the model cannot run on a sample.
    """
    drafter, evidence = attempts.drafter, None
    average = drafter.backend.spec.average_bits
    if not average or precision not in drafter.backend.spec.relief:
        return None
    options = (precision, *drafter.backend.spec.relief[precision])
    using = {option: drafter_in(drafter, option) for option in options}
    drafts = {option: some.draft(precision) for option, some in using.items()}
    layers = layers_of(drafts)
    if attempts.source is None or attempts.shelf is not None:
        what, harms = "error", [errors(drafts[precision], layer) for layer in layers]
    else:
        bases = {option: attempts.plain(using[option], drafts[option]) for option in options}
        samples = list(itertools.islice(attempts.source, SAMPLES))
        found = measured(attempts, bases, layers, samples)
        what, harms = "harm", [effects(layer, found) for layer in layers]
        evidence = Evidence(
            precision, options, f"{average:g} bits a weight on average were asked for",
            ranked_each(found, dict.fromkeys(found)), (), "not measured", len(samples), "bytes",
        )  # fmt: skip
    items = [[(layer.size(o), harm[o]) for o in options] for layer, harm in zip(layers, harms, strict=True)]
    picked = least_harm(items, int(average * sum(layer.numbers for layer in layers)))
    assert picked is not None, "the target refuses an average under the fewest bits"
    owners, placed = owner_of(drafter.prepared, drafts[precision].model), dict[str, NodePlan]()
    for layer, harm, pick in zip(layers, harms, picked, strict=True):
        place = f"{options[pick]} in place of {precision}" if pick else precision
        said = ", ".join(f"{harm[option]:.2g} in {option}" for option in options)
        put = NodePlan(options[pick], "placement", f"{place}, for {average:g} bits on average: {what} {said}")
        placed.update({owners[site.consumer]: put for site in layer.sites})
    attempts.drafter = replace(drafter, placed={**placed, **drafter.placed})
    attempts.notes.append(_said(layers, harms, [options[pick] for pick in picked], what))
    return evidence


def layers_of(drafts: Mapping[Precision, Draft]) -> list[Layer]:
    """The layers that every option stores in blocks, in the order of the plan."""
    first = next(iter(drafts.values()))
    nodes = {node.name: node for node in first.model.nodes}
    uses, tables = defaultdict[str, list[Site]](list), in_tables(first.model, first.plan)
    for site in blocked(first.plan):
        own = site not in tables and nodes[site.consumer].op != "Gather"
        if own and all(site in draft.plan.sites for draft in drafts.values()):
            uses[site.tensor].append(site)
    found = []
    for sites in uses.values():
        specs = {option: draft.plan.sites[sites[0]].choice for option, draft in drafts.items()}
        numbers = math.prod(nodes[sites[0].consumer].inputs[sites[0].port].shape)
        found.append(Layer(tuple(sites), numbers, {o: spec for o, spec in specs.items() if spec is not None}))
    return found


def errors(draft: Draft, layer: Layer) -> dict[Precision, float]:
    """The squared error of a layer's weights in each option as a share of their squares, on some of their rows."""
    nodes = {node.name: node for node in draft.model.nodes}
    site, found = layer.sites[0], dict[Precision, float]()
    values = ir.array(nodes[site.consumer].inputs[site.port])
    for option, spec in layer.specs.items():
        rows = rows_of(values, spec)
        starts = np.linspace(0, max(rows.shape[0] - ROWS // PIECES, 0), PIECES).astype(int)
        some = np.concatenate([rows[start : start + ROWS // PIECES] for start in dict.fromkeys(starts.tolist())])
        found[option] = round_blocks(some, levels(spec), block_size(spec), "mse").loss
    return found


def measured(
    attempts: Attempts, bases: Mapping[Precision, Candidate], layers: Sequence[Layer], samples: Sequence[Sample]
) -> dict[Precision, tuple[Sensitivity, ...]]:
    """What each layer alone does to the outputs in each option."""
    prepared, config = attempts.drafter.prepared, attempts.config
    together = aligned(groups_of(prepared, base) for base in bases.values())
    inside = {site.consumer for layer in layers for site in layer.sites}
    groups = {
        option: [group for group in groups_of(prepared, base, together=together) if inside & {*group.planned}]
        for option, base in bases.items()
    }
    return sweep(
        attempts.means, {option: (bases[option], groups[option]) for option in bases}, samples,
        Asking(config, attempts.memory, attempts.drafter.backend.simulate),
        lambda done, total: attempts.tell("sensitivity", done, total),
    )  # fmt: skip


def effects(layer: Layer, found: Mapping[Precision, Sequence[Sensitivity]]) -> dict[Precision, float]:
    """The measured harm of a layer in each option; finite."""
    inside = {site.consumer for site in layer.sites}
    return {
        option: min(sum(one.alone.harm for one in some if inside & {*one.group.planned}), RUINED)
        for option, some in found.items()
    }


def _said(
    layers: Sequence[Layer], harms: Sequence[Mapping[Precision, float]], picked: Sequence[Precision], what: str
) -> str:
    bits = sum(layer.size(option) for layer, option in zip(layers, picked, strict=True))
    total = sum(harm[option] for harm, option in zip(harms, picked, strict=True))
    counts = ", ".join(f"{picked.count(option)} in {option}" for option in sorted({*picked}))
    average = bits / max(sum(layer.numbers for layer in layers), 1)
    return f"{average:.4g} bits a weight on average: of {len(layers)} layers {counts}; sum of {what} {total:.3g}"
