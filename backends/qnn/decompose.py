"""Nodes that a chip refuses are written out in others while the rest of the plan stays: the last resort of the gate.

The float graph of the plan is rewritten (`expand_operators`) and planned anew. What was decided before keeps its
decision and its numbers; the new values are observed on a few samples.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from glob import escape

from qcompiler import ir
from qcompiler.analysis import HISTOGRAM, collect
from qcompiler.backends.base import Job
from qcompiler.backends.qnn.float16 import Float16Islands
from qcompiler.passes.fusion.expand_operators import FORMS, ExpandOperators
from qcompiler.passes.lower.materialise import Materialise
from qcompiler.passes.plan.annotate import Annotate
from qcompiler.passes.plan.derive_bias import DeriveBias
from qcompiler.passes.plan.encode import Encode, wanted
from qcompiler.passes.plan.share_concat import ShareConcat
from qcompiler.passes.prepare.eliminate_dead import EliminateDead
from qcompiler.pipeline import Pipeline
from qcompiler.quant import QuantPlan, Site, SitePlan
from qcompiler.targets import TargetSpec

SAMPLES, MIXED = 32, "mixed"


@dataclass(eq=False)
class WrittenOut:
    """Writes nodes of a job out.

    Attributes:
        first: the job.
        spec: the table.
        job: what came of it last.
    """

    first: Job
    spec: TargetSpec
    job: Job | None = None

    def model(self, names: frozenset[str]) -> ir.Model | None:
        """The model of the first job with some nodes written out."""
        found = decomposed(self.first, self.spec, names)
        self.job = found or self.job
        return None if found is None else found.model


def decomposed(job: Job, spec: TargetSpec, names: frozenset[str]) -> Job | None:
    """The job with some nodes written out; None where one of them cannot be, or there are no samples.

    Args:
        job: with its plan; numbers of new values need samples.
        spec: the table.
        names: of the nodes.
    """
    pipeline, planned = Pipeline(), job.planned.copy()
    changed = pipeline.graph(planned, [ExpandOperators(frozenset(FORMS), names)])
    if changed != len(names) or job.samples is None:
        return None
    plan = planned_anew(job, spec, planned, names) if any(True for _ in job.plan.quantized()) else job.plan
    return replace(job, planned=planned, plan=plan, model=written(planned, plan))


def planned_anew(job: Job, spec: TargetSpec, planned: ir.Model, names: frozenset[str]) -> QuantPlan:
    """The plan of the rewritten graph."""
    assert job.samples is not None
    pipeline, before = Pipeline(), {node.name for node in planned.nodes} - names
    floats = tuple(escape(n) for n, node in job.plan.nodes.items() if node.precision == "float" and n in before)
    put = {
        name: node.precision for name, node in job.plan.nodes.items() if name in before and node.precision != "float"
    }
    assigned = put if job.precision == MIXED else {}
    plan = pipeline.plan(planned, QuantPlan(), [Annotate(spec, job.precision, floats, assigned=assigned)])
    kept = {site: old for site, old in job.plan.sites.items() if agrees(plan, site, old)}
    plan = plan.with_sites(kept)
    samples = list(itertools.islice(iter(job.samples), SAMPLES))
    stats = collect(planned, samples, dict.fromkeys(wanted(planned, plan), (HISTOGRAM,)))
    steps = [Encode(stats, "minmax"), ShareConcat(spec.concat_ratio, spec.sharing), DeriveBias()]
    plan = pipeline.plan(planned, plan, steps).with_sites(kept)
    return replace(plan, nodes={**plan.nodes, **{n: job.plan.nodes[n] for n in before if n in job.plan.nodes}})


def agrees(plan: QuantPlan, site: Site, old: SitePlan) -> bool:
    """Whether a new plan decides for a site as the old one did."""
    new = plan.sites.get(site)
    return new is not None and (new.choice, new.same_as, new.derived) == (old.choice, old.same_as, old.derived)


def written(planned: ir.Model, plan: QuantPlan) -> ir.Model:
    """The plan as nodes, with float16 where it is float."""
    model = planned.copy()
    passes = [Materialise(plan), EliminateDead()]
    if any(True for _ in plan.quantized()):
        floats = frozenset(name for name, node in plan.nodes.items() if node.precision == "float")
        passes.insert(1, Float16Islands(floats))
    Pipeline().graph(model, passes)
    return model
