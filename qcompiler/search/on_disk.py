"""Weights in blocks of models larger than memory: one after the other from disk to disk.

    map a weight -> codes (`EncodeBlocks`) -> DequantizeLinear (`Materialise`) -> shelf

The graph holds references alone; what a backend makes of codes is deferred until it is written. Memory is that of one
weight: its map, its codes, and a few rows in float32. What is on the shelf from an interrupted run is taken from there.
A table that is an output layer, too, goes with that layer, whose codes it has.

With data, layers take turns (`in_turn`): the samples go through the model piece by piece, as far as the next layer that
is not finished, so memory is that of a piece and of the moments of what the layer reads.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from qcompiler import ir
from qcompiler._version import __version__
from qcompiler.analysis.moments import LARGEST
from qcompiler.data import Sample
from qcompiler.errors import UsageError
from qcompiler.passes.condition.scale_inputs import Factors, ScaleInputs
from qcompiler.passes.lower.materialise import Materialise
from qcompiler.passes.plan.encode_blocks import EncodeBlocks, block_values
from qcompiler.pipeline import GraphPass, Instrument, PassRecord, Pipeline, Trace
from qcompiler.quant import Encoding, QuantPlan, Site, SitePlan
from qcompiler.search.candidates import Candidate, Draft, Drafter
from qcompiler.search.in_turn import Alone, InFloat, InTurn, Steps, Tell, Turn, turns
from qcompiler.search.journal import Journal, content_key
from qcompiler.search.memory import check, needed
from qcompiler.search.shelf import Shelf
from qcompiler.search.weights_in_blocks import BY_DATA, ROUNDING, SCALING, rescaled
from qcompiler.targets import TargetSpec

MIB = 1 << 20
# Running the model would load all its weights.
UNCHECKED = "rewrites were not compared with the model as it was: its weights stay on disk, so it did not run"


class Wish(Protocol):
    """The part of a recipe that decides."""

    @property
    def precision(self) -> str:
        """As in the recipe."""

    @property
    def weight_method(self) -> str:
        """As in the recipe."""

    @property
    def on_disk(self) -> bool:
        """As in the recipe."""


def stays_on_disk(model: ir.Model, spec: TargetSpec, wish: Wish, *, able: bool, data: bool) -> bool:
    """Whether a model is compiled weight by weight, and never run whole: where that was asked for, or it is large.

    Args:
        model: as given.
        spec: of the target.
        wish: what was asked for.
        able: nothing needs the whole model: there are no statistics, and one set of shapes.
        data: there are calibration samples.

    Raises:
        UsageError: it was asked for and cannot be done.
    """
    able = able and wish.precision in spec.on_disk and (data or wish.weight_method not in ("gptq", "awq"))
    if wish.on_disk and not able:
        can = " or ".join(sorted(spec.on_disk)) or "no precision"
        raise UsageError(
            f"weights of target {spec.name!r} can stay on disk with {can}, at one set of shapes",
            where="--on-disk",
            hint="gptq and awq need --data; give no --stats",
        )
    return able and (wish.on_disk or model.is_large)


def candidate_on_disk(
    drafter: Drafter,
    draft: Draft,
    method: str,
    source: Iterable[Sample] | None,
    shelf: Shelf,
    tell: Tell,
    instruments: Sequence[Instrument] = (),
) -> Candidate:
    """The candidate of a draft that quantizes nothing but weights in blocks; its plan holds no codes.

    Args:
        drafter, draft: as for `Drafter.candidate`.
        method: how weights are rounded.
        source: calibration samples, for methods that use some.
        shelf: takes the codes; must be open as long as the candidate is used.
        tell: told how many MiB of weights are done, and how many there are.
        instruments: called after each pass.

    Raises:
        DataError: a value holds NaN or infinity, or the model cannot run on a sample.
        UsageError: there is not enough memory.
    """
    planned = draft.model
    pipeline, plan = Pipeline(Trace(list(draft.trace.records)), instruments), draft.plan
    by_data = source is not None and method in BY_DATA
    if by_data:
        check(needed(planned, turns(planned, plan), LARGEST))
    if source is not None and by_data and method in SCALING:
        planned = planned.copy()
        with shelf.work() as folder:
            moments = InFloat(draft.model, plan, source, folder, tell)
            plan = rescaled(draft, planned, pipeline, moments, FactorsOnShelf(shelf.journal))
    model = planned.copy()
    with shelf.work() as folder:
        steps: Steps = Alone(method)
        if source is not None and by_data:
            steps = InTurn(planned, plan, source, ROUNDING.get(method, "auto"), folder)
        step = ShelveBlocks(plan, method, steps, shelf, tell)
        pipeline.graph(model, [step])
    rest = QuantPlan({s: p for s, p in plan.sites.items() if s not in step.done}, plan.nodes)
    made = drafter.candidate(replace(draft, model=model, plan=rest, trace=pipeline.trace), None, method, {})
    sites = {**made.plan.sites, **step.done}
    ordered = {site: sites[site] for site in dict.fromkeys([*plan.sites, *sites])}
    return replace(made, planned=planned, plan=replace(made.plan, sites=ordered))


@dataclass(frozen=True)
class FactorsOnShelf:
    """Factors of `ScaleInputs` by value, in the journal of a shelf."""

    journal: Journal

    def get(self, name: str) -> Factors | None:
        """What was filed for a value."""
        found = self.journal.get(content_key(__version__, ScaleInputs.name, name))
        return None if found is None else Factors(np.asarray(found["s"], np.float32), found["gain"])

    def put(self, name: str, found: Factors) -> None:
        """Files factors."""
        self.journal.put(content_key(__version__, ScaleInputs.name, name), {"s": found.s.tolist(), "gain": found.gain})


@dataclass(frozen=True)
class ShelveBlocks(GraphPass):
    """Encodes and writes the weights that a plan stores in blocks.

    Attributes:
        plan: says which.
        method: see `with_codes`.
        steps: what encodes them.
        shelf: takes the codes.
        tell: told how far it is.
        done: filled with the decisions, their encodings outlined.
    """

    name: ClassVar[str] = "shelve-blocks"
    plan: QuantPlan
    method: str
    steps: Steps
    shelf: Shelf
    tell: Tell
    done: dict[Site, SitePlan] = field(default_factory=dict)

    def apply(self, model: ir.Model, record: PassRecord) -> None:
        """Each weight is a change."""
        nodes = {node.name: node for node in model.nodes}
        some = [(turn, unit) for turn in turns(model, self.plan) for unit in turn.units]
        sizes = [sum(ir.nbytes(nodes[site.consumer].inputs[site.port]) for site in unit) / MIB for _, unit in some]
        finished, before = 0.0, 0
        for (turn, unit), size in zip(some, sizes, strict=True):
            self.tell("round weights (MiB)", round(finished), round(sum(sizes)))
            before += self._unit(model, nodes, turn, unit)
            finished += size
        record.changes = len(self.done)
        if before:
            record.notes.append(f"{before} weights were found finished")

    def _unit(self, model: ir.Model, nodes: Mapping[str, ir.Node], turn: Turn, unit: Sequence[Site]) -> int:
        """Encodes weights that go together; how many of them were finished already."""
        plan = QuantPlan({site: self.plan.sites[site] for site in unit})
        keys = {site: self._key(site, nodes[site.consumer].inputs[site.port]) for site in unit}
        known = {site: found for site, key in keys.items() if (found := self.shelf.get(key)) is not None}
        if len(known) == len(unit):
            plan = plan.with_sites(
                {
                    site: replace(plan.sites[site], encoding=encoding_from(parts, about["method"], site, plan))
                    for site, (about, parts) in known.items()
                }
            )
        else:
            plan = self.steps.step(turn).apply(model, plan, PassRecord(EncodeBlocks.name))
        Materialise(plan).apply(model, PassRecord(Materialise.name))
        edit, stored = ir.Editor(model, model.graph), dict[tuple[str, ...], str]()
        for site, decision in plan.sites.items():
            encoding = decision.encoding
            assert encoding is not None
            constants = list(made_of(nodes[site.consumer].inputs[site.port]))
            # a table that is an output layer, too, has the constants of that layer
            twin = stored.setdefault(tuple(constant.name for constant in constants), keys[site])
            if site in known:
                parts = known[site][1]
            elif twin != keys[site]:
                parts = self.shelf.link(keys[site], twin)
            else:
                parts = self.shelf.put(keys[site], {"method": encoding.method}, constants)
            for constant, lazy in zip(constants, parts, strict=True):
                edit.settle(constant, lazy)
            self.steps.put(site, partial(values_from, parts, encoding.method, site, self.plan))
            self.done[site] = replace(decision, encoding=encoding.outline())
        return len(unit) if len(known) == len(unit) else 0

    def _key(self, site: Site, constant: ir.Constant) -> str:
        spec = self.plan.sites[site].choice
        return content_key(__version__, self.method, site.tensor, spec, constant.dtype, list(constant.shape))


def made_of(tensor: ir.Tensor) -> Iterator[ir.Constant]:
    """The constants that a tensor is computed from, inputs in their order."""
    if isinstance(tensor, ir.Constant):
        yield tensor
    for node in tensor.inputs:
        for source in node.inputs:
            yield from made_of(source)


def encoding_from(parts: Sequence[ir.Lazy], method: str, site: Site, plan: QuantPlan) -> Encoding:
    """The encoding of what is on the shelf, in the order of `made_of`: a book, codes, scales, what belongs to these."""
    spec = plan.sites[site].choice
    assert spec is not None
    arrays = [part.load() for part in parts]
    book = arrays.pop(0) if arrays[0].ndim == 1 else None
    codes, scale, *more = arrays
    scale = scale.astype(np.float32)
    if spec.scale == "e4m3":
        scale = scale * more.pop()
    zeros = more[0].astype(np.int32) if more else np.zeros(scale.shape, np.int32)
    if spec.qtype.kind != "float":
        codes = codes.astype(np.int8 if spec.low < 0 and book is None else np.uint8)
    entries = book.astype(np.float32)[None] if book is not None and spec.qtype.kind == "codebook" else None
    return Encoding(spec, scale, zeros, method, codes, entries)


def values_from(parts: Sequence[ir.Lazy], method: str, site: Site, plan: QuantPlan) -> npt.NDArray[np.float32]:
    """The values that what is on the shelf stands for."""
    return block_values(encoding_from(parts, method, site, plan))
