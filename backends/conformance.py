"""What the real backend made of a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from qcompiler import ir
from qcompiler.quant import QuantPlan


@dataclass(frozen=True, slots=True)
class Fallback:
    """A node that the backend computes otherwise than planned.

    Attributes:
        node: name in our graph.
        runs_as: the backend's operator.
        rule: why the backend does so, as far as known.
    """

    node: str
    runs_as: str
    rule: str


@dataclass(frozen=True)
class Conformance:
    """What the backend runs.

    Attributes:
        ops: count of each operator in the optimised graph.
        integer_nodes: nodes that compute in integer kernels, or move integer values.
        float_nodes: all others except Q, DQ.
        boundaries: Q, DQ and dynamic Q that are left.
        fallback: planned in integers, run in float.
        surprises: planned in float and run in integers, or run in a kernel that is known to be slow.
        findings: forms known to be slow, whether planned or not, most expensive first.
        failures: why the gate fails, a sentence each; empty where it passes.
        notes: what else a reader should know.
        facts: what the backend reports besides, under its own keys; plain values.
        compiled, executed: whether the real backend compiled the result, and ran it.
        instead: what was compiled in place of the graph of the plan, the model and the plan that it was given; None
            where it was these.
    """

    ops: Mapping[str, int]
    integer_nodes: int
    float_nodes: int
    boundaries: int
    fallback: tuple[Fallback, ...] = ()
    surprises: tuple[Fallback, ...] = ()
    findings: tuple[Finding, ...] = ()
    failures: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    facts: Mapping[str, object] = field(default_factory=dict)
    compiled: bool = True
    executed: bool = True
    instead: tuple[ir.Model, ir.Model, QuantPlan] | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """A node that the backend runs in a form known to be slow.

    Attributes:
        trap: name of the form.
        node: name in our graph.
        runs_as: the backend's operator.
        what: what happens, in a sentence.
        rule: where that is measured: rule or section of the backend's fact sheet.
        remedy: what avoids it.
        microseconds: of the node in one run of this model; None where nothing was run.
        share: of the whole run; None where nothing was run.
    """

    trap: str
    node: str
    runs_as: str
    what: str
    rule: str
    remedy: str
    microseconds: float | None = None
    share: float | None = None
