"""The gate: the real builder compiles what ships, and what it made of each node is compared with the plan.

A node that was planned in few bits and computes in float fails the gate, unless the user allows it. So does a refusal.
Where the builder is not installed, the legality of the graph has been checked all the same (`legal`); nothing more is
known then, and the report says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from qcompiler import ir
from qcompiler.backends.base import Job
from qcompiler.backends.conformance import Conformance, Fallback
from qcompiler.backends.tensorrt import build as builder
from qcompiler.backends.tensorrt.kernels import NARROW, Kernel, by_node, by_type, kernels
from qcompiler.backends.tensorrt.profile import profile
from qcompiler.backends.tensorrt.refusals import said
from qcompiler.backends.tensorrt.ship import ship
from qcompiler.backends.tensorrt.variants import GPUS
from qcompiler.passes.prepare.purity import GRID
from qcompiler.quant import NodePlan

if TYPE_CHECKING:
    from qcompiler.backends.tensorrt.backend import TensorRT

MODEL, ENGINE = "model.onnx", "model.engine"
PLANNED = frozenset({*NARROW, "w8"})


def gate(backend: TensorRT, job: Job) -> Conformance:
    """Writes everything that ships, builds, and compares."""
    gpu = GPUS[backend.variant]
    bounds, notes = profile(job.model, job.ranges, job.samples)
    ir.save(job.model, job.folder / MODEL)
    boundaries = sum(node.op in GRID for node in job.model.all_nodes())
    if not backend.version:
        found = Conformance(
            {}, 0, 0, boundaries, compiled=False, executed=False,
            notes=(f"TensorRT-RTX is not installed: checked by rules alone, not built; {builder.INSTALL}",),
        )  # fmt: skip
        ship(job, backend, bounds, {})
        return found
    job.tell("build engine", 0, None)
    built = builder.build(job.folder / MODEL, gpu.proxy, bounds, job.folder / ENGINE if backend.engine else None)
    if not gpu.exact:
        notes.append(
            f"TensorRT-RTX does not compile for {backend.variant}: checked on {gpu.proxy.lower()} in its place"
        )
    facts: dict[str, object] = {
        "capability": gpu.proxy,
        "exact": gpu.exact,
        "seconds": built.seconds,
        "peak_rss_mib": built.peak_rss_mib,
    }
    if not built.ok:
        ship(job, backend, bounds, {**facts, "refusal": built.error})
        failure = said(built)
        return Conformance(
            {}, 0, 0, boundaries, failures=(failure,), notes=(*notes, failure), facts=facts, compiled=False,
            executed=False,
        )  # fmt: skip
    listing = kernels(built.layers)
    facts |= summary(listing, built)
    ship(job, backend, bounds, facts)
    return compared(backend, job, listing, facts, boundaries, notes)


def summary(listing: Sequence[Kernel], built: builder.Built) -> dict[str, object]:
    """What the report says of an engine."""
    types = by_node(listing)
    return {
        "kernels": len(listing),
        "kernels_by_precision": by_type(listing),
        "precision_by_node": dict(sorted(types.items())),
        "weights_unpacked": sorted({node for kernel in listing if kernel.unpacks_weights for node in kernel.nodes}),
        "reformat_kernels": sum(kernel.moves for kernel in listing),
        "engine_bytes": built.engine_bytes,
        "engine_sha256": built.engine_sha256,
        "warnings": list(dict.fromkeys(built.warnings)),
    }


def compared(
    backend: TensorRT,
    job: Job,
    listing: Sequence[Kernel],
    facts: Mapping[str, object],
    boundaries: int,
    notes: list[str],
) -> Conformance:
    """The plan beside what runs."""
    types = by_node(listing)
    planned = {name: plan for name, plan in job.plan.nodes.items() if plan.precision in PLANNED}
    fallback = [
        Fallback(name, types.get(name, "no kernel of its own"), why(name, types, backend.variant))
        for name, plan in planned.items()
        if not conforms(plan, types.get(name))
    ]
    failures = [
        f"{f.node} was planned in {planned[f.node].precision} and computes in {f.runs_as}; "
        f"--keep-float {f.node} or --allow-float {f.node}"
        for f in fallback
        if not (backend.allow_fallback or any(fnmatchcase(f.node, pattern) for pattern in backend.allow_float))
    ]
    kinds = Counter(kernel.kind for kernel in listing)
    narrow = sum(types.get(name) in PLANNED for name in types)
    return Conformance(
        dict(sorted(kinds.items())), narrow, len(types) - narrow, boundaries, tuple(fallback), failures=tuple(failures),
        notes=(*notes, *failures), facts=facts, executed=False,
    )  # fmt: skip


def conforms(plan: NodePlan, runs: str | None) -> bool:
    """Whether a node computes as planned: int8 weights beside float activations are no int8, but they are w8."""
    return runs == plan.precision


def why(name: str, types: Mapping[str, str], variant: str) -> str:
    """As far as known."""
    if name not in types:
        return "the builder lists no kernel for it"
    return f"the builder chose a kernel in {types[name]} for {variant}"
