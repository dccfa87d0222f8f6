"""Weights in blocks of models larger than memory: one after the other from disk to disk.

    map a weight -> codes (`EncodeBlocks`) -> DequantizeLinear (`Materialise`) -> shelf

The graph holds references alone; what a backend makes of codes is deferred until it is written. Memory is that of one
weight: its map, its codes, and a few rows in float32. What is on the shelf from an interrupted run is taken from there.
A table that is an output layer, too, goes with that layer, whose codes it has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Protocol

import numpy as np

from qcompiler import ir
from qcompiler._version import __version__
from qcompiler.errors import UsageError
from qcompiler.passes.lower.materialise import Materialise
from qcompiler.passes.plan.encode_blocks import EncodeBlocks, units
from qcompiler.pipeline import GraphPass, Instrument, PassRecord, Pipeline, Trace
from qcompiler.quant import Encoding, QuantPlan, Site, SitePlan
from qcompiler.search.candidates import Candidate, Draft, Drafter
from qcompiler.search.journal import content_key
from qcompiler.search.shelf import Shelf
from qcompiler.targets import TargetSpec

MIB = 1 << 20
# Running the model would load all its weights.
UNCHECKED = "rewrites were not compared with the model as it was: its weights stay on disk, so it did not run"
Tell = Callable[[str, int, "int | None"], None]


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


def stays_on_disk(model: ir.Model, spec: TargetSpec, wish: Wish, *, able: bool) -> bool:
    """Whether a model is compiled weight by weight, and never run: where that was asked for, or it is large.

    Args:
        model: as given.
        spec: of the target.
        wish: what was asked for.
        able: nothing needs the whole model: there is no data, and one set of shapes.

    Raises:
        UsageError: it was asked for and cannot be done.
    """
    able = able and wish.precision in spec.on_disk and wish.weight_method not in ("gptq", "awq")
    if wish.on_disk and not able:
        can = " or ".join(sorted(spec.on_disk)) or "no precision"
        raise UsageError(
            f"weights of target {spec.name!r} can stay on disk with {can}, without data, at one set of shapes",
            where="--on-disk",
        )
    return able and (wish.on_disk or model.is_large)


def candidate_on_disk(
    drafter: Drafter, draft: Draft, method: str, shelf: Shelf, tell: Tell, instruments: Sequence[Instrument] = ()
) -> Candidate:
    """The candidate of a draft that quantizes nothing but weights in blocks; its plan holds no codes.

    Args:
        drafter, draft: as for `Drafter.candidate`.
        method: a rounding that needs no data.
        shelf: takes the codes; must be open as long as the candidate is used.
        tell: told how many MiB of weights are done, and how many there are.
        instruments: called after the pass.
    """
    step = ShelveBlocks(draft.plan, method, shelf, tell)
    pipeline, model = Pipeline(Trace(list(draft.trace.records)), instruments), draft.model.copy()
    pipeline.graph(model, [step])
    rest = QuantPlan({s: p for s, p in draft.plan.sites.items() if s not in step.done}, draft.plan.nodes)
    made = drafter.candidate(replace(draft, model=model, plan=rest, trace=pipeline.trace), None, method, {})
    return replace(made, planned=draft.model, plan=made.plan.with_sites(step.done))


@dataclass(frozen=True)
class ShelveBlocks(GraphPass):
    """Encodes and writes the weights that a plan stores in blocks.

    Attributes:
        plan: says which.
        method: see `EncodeBlocks`.
        shelf: takes the codes.
        tell: told how far it is.
        done: filled with the decisions, their encodings outlined.
    """

    name: ClassVar[str] = "shelve-blocks"
    plan: QuantPlan
    method: str
    shelf: Shelf
    tell: Tell
    done: dict[Site, SitePlan] = field(default_factory=dict)

    def apply(self, model: ir.Model, record: PassRecord) -> None:
        """Each weight is a change."""
        nodes = {node.name: node for node in model.nodes}
        some = units(model, self.plan)
        sizes = [sum(ir.nbytes(nodes[site.consumer].inputs[site.port]) for site in unit) / MIB for unit in some]
        finished, before = 0.0, len(self.shelf.journal)
        for unit, size in zip(some, sizes, strict=True):
            self.tell("round weights (MiB)", round(finished), round(sum(sizes)))
            self._unit(model, nodes, unit)
            finished += size
        record.changes = len(self.done)
        if before:
            record.notes.append(f"{before} weights were found finished")

    def _unit(self, model: ir.Model, nodes: Mapping[str, ir.Node], unit: Sequence[Site]) -> None:
        plan = QuantPlan({site: self.plan.sites[site] for site in unit})
        keys = {site: self._key(site, nodes[site.consumer].inputs[site.port]) for site in unit}
        known = {site: self.shelf.get(key) for site, key in keys.items()}
        if all(known.values()):
            plan = plan.with_sites(
                {
                    site: replace(plan.sites[site], encoding=encoding_from(found[1], found[0]["method"], site, plan))
                    for site, found in known.items()
                    if found is not None
                }
            )
        else:
            plan = EncodeBlocks(self.method).apply(model, plan, PassRecord(EncodeBlocks.name))
        Materialise(plan).apply(model, PassRecord(Materialise.name))
        edit = ir.Editor(model, model.graph)
        for site, decision in plan.sites.items():
            encoding, found = decision.encoding, known[site]
            assert encoding is not None
            parts = list(made_of(nodes[site.consumer].inputs[site.port]))
            if any(not ir.on_disk(part) for part in parts):
                about = {"method": encoding.method}
                lazies = self.shelf.put(keys[site], about, parts) if found is None else found[1]
                for constant, lazy in zip(parts, lazies, strict=True):
                    edit.settle(constant, lazy)
            self.done[site] = replace(decision, encoding=encoding.outline())

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
