"""Scales, zero points and codes of weights in blocks, one matrix at a time.

    MatMul x W (K, N), Gemm with transB (N, K), Gather from a table (V, K)  ->  a matrix of rows along K, in blocks

Each row is one output, or one entry of a table. How rows are rounded is a name in `block_rounding`; where the second
moments of a layer's inputs are known, errors count by what they do to its outputs. Weights with equal values get equal
codes, so that a matrix that serves as table and as output layer stays one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from qcompiler import ir
from qcompiler.numerics.block_rounding import BlockCodes, round_blocks
from qcompiler.numerics.levels import E2M1_BOOK, NF4_BOOK, Levels
from qcompiler.pipeline import PassRecord, PlanPass
from qcompiler.quant import Encoding, PerBlock, QSpec, QuantPlan, Site, SitePlan

F64 = npt.NDArray[np.float64]
F32 = npt.NDArray[np.float32]
BOOKS = {"nf4": NF4_BOOK, "fp4_e2m1": E2M1_BOOK}


@dataclass(frozen=True)
class EncodeBlocks(PlanPass):
    """Encodes every constant that the plan stores in blocks and that has no encoding yet.

    Attributes:
        method: one of `ROUNDINGS`.
        moments: sum of x x^T by the name of the value that a layer reads.
    """

    name: ClassVar[str] = "encode-blocks"
    method: str = "auto"
    moments: Mapping[str, F64] = field(default_factory=dict)

    def apply(self, model: ir.Model, plan: QuantPlan, record: PassRecord) -> QuantPlan:
        """The plan with codes; a note says what each method lost."""
        nodes = {node.name: node for node in model.nodes}
        known: dict[bytes, BlockCodes] = {}
        done: dict[Site, SitePlan] = {}
        losses: dict[str, list[float]] = {}
        # layers first: a table that is an output layer, too, takes its codes
        order = sorted(blocked(plan), key=lambda site: nodes[site.consumer].op == "Gather")
        for site in order:
            decision, node = plan.sites[site], nodes[site.consumer]
            if decision.choice is None or decision.encoding is not None:
                continue
            spec = decision.choice
            rows = as_rows(ir.array(node.inputs[site.port]), spec)
            key = sha256(rows.tobytes() + str((spec.qtype, block_size(spec), spec.symmetric)).encode()).digest()
            if key not in known:
                moments = None if node.op == "Gather" else self.moments.get(node.inputs[0].name)
                known[key] = round_blocks(rows, levels(spec), block_size(spec), self.method, moments)
            found = known[key]
            losses.setdefault(found.method, []).append(found.loss)
            done[site] = replace(decision, encoding=encoding_of(found, spec), why=f"{decision.why}, {found.method}")
        record.changes = len(done)
        record.notes += [
            f"{len(some)} weights by {method}, which loses {np.mean(some):.3%} of the outputs' energy on average"
            for method, some in sorted(losses.items())
        ]
        return plan.with_sites(done)


def blocked(plan: QuantPlan) -> list[Site]:
    """The uses of constants that the plan stores in blocks; where scales have another form, `encode` does it all."""
    return [
        site
        for site, decision in plan.quantized()
        if decision.choice is not None
        and isinstance(decision.choice.granularity, PerBlock)
        and site.consumer
        and decision.choice.scale == "f32"
    ]


def block_size(spec: QSpec) -> int:
    """Values in a block."""
    assert isinstance(spec.granularity, PerBlock)
    return spec.granularity.size


def levels(spec: QSpec) -> Levels:
    """What the codes of a spec stand for."""
    if spec.qtype.name in BOOKS:
        return Levels.of(BOOKS[spec.qtype.name])
    return Levels(spec.low, spec.high, spec.symmetric)


def as_rows(values: npt.NDArray[Any], spec: QSpec) -> F32:
    """The matrix with blocks along its rows."""
    assert isinstance(spec.granularity, PerBlock)
    turned = values.T if spec.granularity.axis % values.ndim == 0 else values
    return np.ascontiguousarray(turned, np.float32)


def encoding_of(found: BlockCodes, spec: QSpec) -> Encoding:
    """The encoding, in the layout of the weight."""
    assert isinstance(spec.granularity, PerBlock)
    parts = found.grid.scale, found.grid.zero_point, found.codes
    if spec.granularity.axis == 0:
        parts = tuple(np.ascontiguousarray(part.T) for part in parts)  # type: ignore[assignment]
    scale, zero, codes = parts
    small = np.int8 if spec.qtype.low < 0 else np.uint8
    return Encoding(spec, scale, zero, found.method, codes.astype(small))
