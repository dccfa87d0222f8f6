"""What the report says of a QNN compile besides: where each node runs, and what the emulator found."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from qcompiler import ir
from qcompiler.backends.qnn.compile import Compiled, Settings
from qcompiler.backends.qnn.emulate import Emulation
from qcompiler.backends.qnn.spec import FLOAT_KERNELS
from qcompiler.backends.qnn.trace import Trace
from qcompiler.quant import NodePlan


def planned(plan: Mapping[str, NodePlan], name: str) -> bool:
    """Whether a node was planned in integers."""
    return name in plan and plan[name].precision != "float"


def against(plan: Mapping[str, NodePlan], name: str) -> bool:
    """Whether a node that computes in float16 was planned otherwise."""
    return planned(plan, name) and plan[name].rule not in FLOAT_KERNELS


def facts(
    settings: Settings,
    made: Compiled,
    emulations: Sequence[Emulation],
    size: int,
    plan: Mapping[str, NodePlan],
    nodes: Mapping[str, ir.Node],
    islands: Sequence[str],
) -> Mapping[str, object]:
    """What the report says besides."""
    trace = made.trace
    return {
        "socs": [asdict(soc) for soc in settings.socs],
        "partitions": trace.partitions,
        "binary_bytes": size,
        "converts": list(trace.converts),
        "borders": list(trace.borders),
        "islands": [{"node": name, "op": nodes[name].op, "planned": not against(plan, name)} for name in islands],
        "nodes": [placed(node, plan, trace, islands, made) for node in nodes.values()],
        "emulation": [emulation_facts(emulation) for emulation in emulations],
    }


def placed(
    node: ir.Node, plan: Mapping[str, NodePlan], trace: Trace, islands: Sequence[str], made: Compiled
) -> dict[str, object]:
    """Where one node runs."""
    refused = made.refused.get(node.name, "")
    kind = plan[node.name].precision if node.name in plan else "float"
    if refused:
        kind = "cpu"
    elif kind == "float" or node.name in islands:
        kind = "float16"
    return {
        "node": node.name,
        "op": node.op,
        "qnn": list(trace.nodes.get(node.name, ())),
        "precision": kind,
        "refused": refused,
    }


def emulation_facts(emulation: Emulation) -> dict[str, object]:
    """One chip's check; null stands for equality."""
    outputs = {
        name: {
            "qdq_db": finite(check.qdq), "float_db": finite(check.real), "planned_db": finite(check.planned),
            "agreement": round(check.agree, 4),
        }
        for name, check in emulation.outputs.items()
    }  # fmt: skip
    return {
        "soc": emulation.soc.name, "samples": emulation.samples, "seconds": round(emulation.seconds, 4),
        "outputs": outputs, "error": emulation.error, "shape": emulation.shape,
    }  # fmt: skip


def finite(value: float) -> float | None:
    """A ratio for JSON."""
    return round(value, 2) if math.isfinite(value) else None
