"""Weights in blocks, layer after layer in the order of the graph, each knowing what those in front of it lost.

    H = sum y y^T, D = sum (x - y) y^T      x: what a layer reads in the float model, y: behind rounded weights
    W + W A -> codes                        A = D H^-1 (`gptq.correction`), by the moments H

Layers that read the same value go together. Both models are walked through once (`Walk`): each piece is run when what
is in front of it is rounded, so memory is that of one piece of the model and of the moments of one value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from qcompiler import ir
from qcompiler.analysis.moments import LARGEST, Pair, paired, summed
from qcompiler.analysis.walk import Walk
from qcompiler.data import Sample
from qcompiler.numerics.gptq import correction
from qcompiler.passes.plan.encode_blocks import EncodeBlocks, block_values, blocked, said, units
from qcompiler.passes.prepare.widen_half import WidenHalf
from qcompiler.pipeline import PassRecord, PlanPass
from qcompiler.quant import QuantPlan, Site
from qcompiler.targets.spec import reduced_axis

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
Tell = Callable[[str, int, "int | None"], None]


class Turn(NamedTuple):
    """Layers that read the same value, in units that are rounded together.

    Attributes:
        read: the value; empty for tables that are no layer.
        width: what is summed over.
        units: see `encode_blocks.units`.
    """

    read: str
    width: int
    units: list[list[Site]]


def turns(model: ir.Model, plan: QuantPlan) -> list[Turn]:
    """The sites of a plan, in the order of the graph, by what they read."""
    nodes = {node.name: node for node in model.nodes}
    found: dict[str, Turn] = {}
    for unit in units(model, plan):
        node = nodes[unit[0].consumer]
        table = node.op == "Gather"
        read = "" if table else node.inputs[0].name
        width = 0 if table else int(node.inputs[1].shape[reduced_axis(node)])
        found.setdefault(read, Turn(read, width, [])).units.append(unit)
    return list(found.values())


class InFloat:
    """The moments of what layers read in the float model, each to be asked for once, in the order of the graph.

    Args:
        model, plan: say which layers.
        source: calibration samples.
        folder: for files.
        tell: told how many are done, and how many there are.
    """

    def __init__(
        self, model: ir.Model, plan: QuantPlan, source: Iterable[Sample], folder: Path, tell: Tell = lambda *_: None
    ) -> None:
        self._widths = {turn.read: turn.width for turn in turns(model, plan) if 0 < turn.width <= LARGEST}
        wide, self._tell = widened(model), tell
        self._names = names_in(wide, model, plan)
        self._walk = Walk(wide, source, {self._names[name] for name in self._widths}, folder)

    def __call__(self, name: str) -> F64 | None:
        """The moments of a value; None where no layer reads it, or none can be had.

        Raises:
            DataError: it holds NaN or infinity, or the model cannot run on a sample.
        """
        if name not in self._widths:
            return None
        self._tell("calibrate", list(self._widths).index(name), len(self._widths))
        found = summed(name, self._widths[name], self._walk.values(self._names[name]), self._walk.samples)
        self._walk.forget(self._names[name])
        return found


class Behind:
    """What layers read in the float model and behind the weights that were rounded so far.

    Args:
        model: the model that is rounded; short floats are computed in float32.
        plan: says which weights.
        source: calibration samples.
        folder: for files.
    """

    def __init__(self, model: ir.Model, plan: QuantPlan, source: Iterable[Sample], folder: Path) -> None:
        exact = widened(model)
        rounded = exact.copy()
        edit, nodes = ir.Editor(rounded, rounded.graph), {node.name: node for node in rounded.nodes}
        self._values: dict[Site, Callable[[], F32]] = {}
        for site in blocked(plan):
            old = nodes[site.consumer].inputs[site.port]
            later = ir.Deferred(old.shape, old.dtype, partial(self._now, site, old))
            edit.set_input(nodes[site.consumer], site.port, edit.constant(f"{old.name}_rounded", later))
        self._names = names_in(exact, model, plan)
        targets = {self._names[turn.read] for turn in turns(model, plan) if 0 < turn.width <= LARGEST}
        self._walks = []
        for name, which in (("float", exact), ("rounded", rounded)):
            (folder / name).mkdir()
            self._walks.append(Walk(which, source, targets, folder / name))

    def put(self, site: Site, values: Callable[[], F32]) -> None:
        """From here on a weight has the values that its codes stand for."""
        self._values[site] = values

    def pair(self, turn: Turn) -> Pair | None:
        """The sums of what the layers of a turn read; None where there are none. Once for each turn.

        Raises:
            DataError: it holds NaN or infinity, or the model cannot run on a sample.
        """
        if not 0 < turn.width <= LARGEST:
            return None
        (exact, rounded), name = self._walks, self._names[turn.read]
        found = paired(turn.read, turn.width, exact.values(name), rounded.values(name), exact.samples)
        for walk in self._walks:
            walk.forget(name)
        return found

    def _now(self, site: Site, old: ir.Constant) -> npt.NDArray[Any]:
        found = self._values.get(site)
        return ir.array(old) if found is None else found().astype(old.dtype, copy=False)


@dataclass(frozen=True)
class EncodeInTurn(PlanPass):
    """Encodes every constant that the plan stores in blocks.

    Attributes:
        source: calibration samples.
        method: of `EncodeBlocks`, by moments; `auto` makes up for what was lost in front, too.
        tell: told the stage, how much is done, and how much there is.
    """

    name: ClassVar[str] = EncodeBlocks.name
    source: Iterable[Sample]
    method: str = "auto"
    tell: Tell = field(default=lambda *_: None)

    def apply(self, model: ir.Model, plan: QuantPlan, record: PassRecord) -> QuantPlan:
        """The plan with codes.

        Raises:
            DataError: an input holds NaN or infinity.
        """
        with TemporaryDirectory(prefix="qcompiler-") as folder:
            steps, some = InTurn(model, plan, self.source, self.method, Path(folder)), turns(model, plan)
            for number, turn in enumerate(some):
                self.tell("round weights", number, len(some))
                for unit in turn.units:
                    done = steps.step(turn).apply(model, QuantPlan({s: plan.sites[s] for s in unit}), PassRecord(""))
                    plan = plan.with_sites(done.sites)
                    record.changes += len(done.sites)
                    for site, decision in done.quantized():
                        assert decision.encoding is not None
                        steps.put(site, partial(block_values, decision.encoding))
        record.notes += said(steps.losses)
        return plan


class Steps(Protocol):
    """The passes that encode the layers of a plan, turn after turn.

    Attributes:
        losses: see `EncodeBlocks`.
    """

    losses: dict[str, list[float]]

    def put(self, site: Site, values: Callable[[], F32]) -> None:
        """A weight was rounded to these values."""

    def step(self, turn: Turn) -> EncodeBlocks:
        """What encodes the layers of a turn, all turns in front of it being done.

        Raises:
            DataError: an input holds NaN or infinity, or the model cannot run on a sample.
        """


class Alone:
    """Steps without data: each weight by itself."""

    def __init__(self, method: str) -> None:
        self.losses = dict[str, list[float]]()
        self._step = EncodeBlocks(method, losses=self.losses)

    def put(self, site: Site, values: Callable[[], F32]) -> None:
        """Changes nothing."""

    def step(self, turn: Turn) -> EncodeBlocks:
        """The same for all."""
        return self._step


class InTurn:
    """Steps by what layers read; arguments as for `EncodeInTurn`, `folder` for files."""

    def __init__(self, model: ir.Model, plan: QuantPlan, source: Iterable[Sample], method: str, folder: Path) -> None:
        self.losses = dict[str, list[float]]()
        self._method, self._step = method, ("", EncodeBlocks(method))
        self._float = InFloat(model, plan, source, folder) if method != "auto" else None
        self._behind = Behind(model, plan, source, folder) if method == "auto" else None

    def put(self, site: Site, values: Callable[[], F32]) -> None:
        """What is read behind it changes."""
        if self._behind is not None:
            self._behind.put(site, values)

    def step(self, turn: Turn) -> EncodeBlocks:
        """By the moments of what the turn reads, which are kept until the next."""
        if self._step[0] != turn.read or not turn.read:
            self._step = turn.read, self._made(turn)
        return self._step[1]

    def _made(self, turn: Turn) -> EncodeBlocks:
        moments, corrections = dict[str, F64](), dict[str, F64]()
        self._step = "", EncodeBlocks(self._method)  # lets go of the moments of the turn before
        if self._behind is not None and (pair := self._behind.pair(turn)) is not None:
            moments, corrections = {turn.read: pair.second}, {turn.read: correction(*pair)}
        elif self._float is not None and (second := self._float(turn.read)) is not None:
            moments = {turn.read: second}
        return EncodeBlocks(self._method, moments, corrections, self.losses)


def widened(model: ir.Model) -> ir.Model:
    """The model with what is stored in short floats computed in float32, values of weights as they are."""
    wide = model.copy()
    WidenHalf().apply(wide, PassRecord(WidenHalf.name))
    return wide


def names_in(other: ir.Model, model: ir.Model, plan: QuantPlan) -> dict[str, str]:
    """For what each layer of a plan reads, what the same layer reads in another model."""
    there = {node.name: node for node in other.nodes}
    here = {node.name: node for node in model.nodes}
    return {here[site.consumer].inputs[0].name: there[site.consumer].inputs[0].name for site in blocked(plan)}
