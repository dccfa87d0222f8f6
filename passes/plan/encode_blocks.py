"""Scales, zero points and codes of weights in blocks, one matrix at a time.

    MatMul x W (K, N), Gemm with transB (N, K), Gather from a table (V, K)  ->  a matrix of rows along K, in blocks

Each row is one output, or one entry of a table. How rows are rounded is a name in `block_rounding`; where the second
moments of a layer's inputs are known, errors count by what they do to its outputs. Weights with equal values get equal
codes, so that a matrix that serves as table and as output layer stays one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from hashlib import sha256
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
from onnx import helper

from qcompiler import ir
from qcompiler.numerics.block_range import PIECE
from qcompiler.numerics.block_rounding import Rows, round_blocks
from qcompiler.numerics.codebook import learned
from qcompiler.numerics.levels import E2M1_BOOK, NF4_BOOK, Levels
from qcompiler.passes.fusion.ties import tied
from qcompiler.passes.lower.codes import values_of
from qcompiler.passes.plan.annotate import along
from qcompiler.pipeline import PassRecord, PlanPass
from qcompiler.quant import Encoding, PerBlock, QSpec, QuantPlan, Site, SitePlan
from qcompiler.quant.qtype import E2M1

F64 = npt.NDArray[np.float64]
F32 = npt.NDArray[np.float32]
STORED = ("f32", "half", "f16")
"""Forms of scales that are rounded here; f16 is TensorRT's, which takes positive ones alone."""
BOOKS: dict[str, tuple[float, ...]] = {"nf4": NF4_BOOK, "e2m1": E2M1_BOOK}
E2M1_BITS = (*range(15, 8, -1), *range(8))
"""What E2M1 stores for each of its levels: a sign, then the place of its size."""


class Rounded(NamedTuple):
    """A rounded matrix, blocks along its rows; see `BlockCodes`."""

    scale: F32
    zero_point: npt.NDArray[np.int32]
    codes: npt.NDArray[np.integer[Any]]
    method: str
    loss: float
    levels: Levels

    def encoding(self, spec: QSpec) -> Encoding:
        """The encoding, in the layout of the weight; codes that have it already are not copied."""
        scale, zero, codes = (np.ascontiguousarray(turned(part, spec)) for part in self[:3])
        return Encoding(spec, scale, zero, self.method, *stored(codes, spec, self.levels.book))


@dataclass(frozen=True)
class EncodeBlocks(PlanPass):
    """Encodes every constant that the plan stores in blocks and that has no encoding yet.

    Attributes:
        method: one of `ROUNDINGS`.
        moments: sum of x x^T by the name of the value that a layer reads.
        corrections: by the same name A, where W + W A is rounded in place of W (`gptq.correction`).
        losses: filled with what each method lost, by its name.
    """

    name: ClassVar[str] = "encode-blocks"
    method: str = "auto"
    moments: Mapping[str, F64] = field(default_factory=dict)
    corrections: Mapping[str, F64] = field(default_factory=dict)
    losses: dict[str, list[float]] = field(default_factory=dict)

    def apply(self, model: ir.Model, plan: QuantPlan, record: PassRecord) -> QuantPlan:
        """The plan with codes; a note says what each method lost."""
        nodes = {node.name: node for node in model.nodes}
        known: dict[bytes, Rounded] = {}
        done: dict[Site, SitePlan] = {}
        # layers first: a table that is an output layer, too, takes its codes
        order = sorted(blocked(plan), key=lambda site: nodes[site.consumer].op == "Gather")
        tables = any(nodes[site.consumer].op == "Gather" for site in order)
        shared = in_tables(model, plan) if self.corrections and tables else frozenset()
        for site in order:
            decision, node = plan.sites[site], nodes[site.consumer]
            if decision.choice is None or decision.encoding is not None:
                continue
            spec, constant = decision.choice, node.inputs[site.port]
            values = ir.array(constant)
            key = digest(rows_of(values, spec), spec)
            if key not in known:
                read = "" if node.op == "Gather" else node.inputs[0].name
                # a table has its own values to give, not those that make up for layers in front
                correction = None if site in shared else self.corrections.get(read)
                known[key] = _rounded(values, spec, self.method, self.moments.get(read), correction)
            found = known[key]
            self.losses.setdefault(found.method, []).append(found.loss)
            done[site] = replace(decision, encoding=found.encoding(spec), why=f"{decision.why}, {found.method}")
        record.changes = len(done)
        record.notes += said(self.losses)
        return plan.with_sites(done)


def said(losses: Mapping[str, list[float]]) -> list[str]:
    """What each method lost, for a person."""
    return [
        f"{len(some)} weights by {method}, which loses {np.mean(some):.3%} of the outputs' energy on average"
        for method, some in sorted(losses.items())
    ]


def blocked(plan: QuantPlan) -> list[Site]:
    """The uses of constants that the plan stores in blocks; where scales have another form, `encode` does it all."""
    return [
        site
        for site, decision in plan.quantized()
        if decision.choice is not None
        and isinstance(decision.choice.granularity, PerBlock)
        and site.consumer
        and (decision.choice.scale in STORED or decision.choice.qtype.kind == "codebook")
    ]


def stored(
    codes: npt.NDArray[np.integer[Any]], spec: QSpec, levels: tuple[float, ...]
) -> tuple[npt.NDArray[Any], F32 | None]:
    """Codes as they are stored, from the places of levels, and the book that says what each stands for, if any."""
    if spec.qtype.kind == "int":
        return codes, None
    book = np.asarray(levels, np.float32)
    if spec.qtype.kind == "float":
        return book[codes].astype(helper.tensor_dtype_to_np_dtype(spec.qtype.onnx)), None
    if spec.qtype is not E2M1:
        return codes, book[None]
    of_bits = np.zeros((1, 16), np.float32)
    of_bits[0, E2M1_BITS] = book
    return np.asarray(E2M1_BITS, np.uint8)[codes], of_bits


def block_size(spec: QSpec) -> int:
    """Values in a block."""
    assert isinstance(spec.granularity, PerBlock)
    return spec.granularity.size


def levels(spec: QSpec) -> Levels:
    """What the codes of a spec stand for; of a book that is yet to be learned, as many whole numbers."""
    if spec.qtype.name in BOOKS:
        return Levels.of(BOOKS[spec.qtype.name])
    if spec.qtype.kind == "float":
        return Levels.of(numbers_of(spec.qtype.onnx))
    if spec.qtype.kind == "codebook":
        return Levels.unsigned(spec.qtype.bits, symmetric=True)
    return Levels(spec.low, spec.high, spec.symmetric, positive=spec.scale == "f16")


@cache
def numbers_of(onnx: int) -> tuple[float, ...]:
    """The finite numbers of a type of 8 bits, ascending."""
    every = np.arange(256, dtype=np.uint8).view(helper.tensor_dtype_to_np_dtype(onnx)).astype(np.float32)
    return tuple(np.unique(every[np.isfinite(every)]).tolist())


@dataclass(frozen=True, eq=False)
class TurnedRows:
    """The rows along blocks of a matrix that holds them as columns or in another type; see `Rows`."""

    values: npt.NDArray[Any]

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows, K."""
        return self.values.shape

    def __getitem__(self, part: slice, /) -> F32:
        return np.ascontiguousarray(self.values[part], np.float32)


@dataclass(frozen=True, eq=False)
class CorrectedRows:
    """The rows of W + W A, each made when it is read; see `Rows`."""

    rows: Rows
    correction: F64

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows, K."""
        return self.rows.shape

    def __getitem__(self, part: slice, /) -> F32:
        some = self.rows[part]
        return np.asarray(some + some @ self.correction, np.float32)


def rows_of(values: npt.NDArray[Any], spec: QSpec) -> TurnedRows:
    """The matrix with blocks along its rows, none of it read yet."""
    return TurnedRows(turned(values, spec))


def as_rows(values: npt.NDArray[Any], spec: QSpec) -> F32:
    """The matrix with blocks along its rows."""
    return rows_of(values, spec)[:]


def turned(values: npt.NDArray[Any], spec: QSpec) -> npt.NDArray[Any]:
    """A matrix with blocks along its rows, or back."""
    assert isinstance(spec.granularity, PerBlock)
    return values.T if spec.granularity.axis % values.ndim == 0 else values


def digest(rows: TurnedRows, spec: QSpec) -> bytes:
    """Equal for matrices whose codes must be equal."""
    found = sha256(str((rows.shape, rows.values.dtype, along(spec, 0, 0))).encode())
    step = max(1, PIECE // max(rows.shape[1], 1))
    for start in range(0, rows.shape[0], step):
        found.update(rows[start : start + step].data)
    return found.digest()


def _rounded(
    values: npt.NDArray[Any], spec: QSpec, method: str, moments: F64 | None, correction: F64 | None
) -> Rounded:
    rows: Rows = rows_of(values, spec)
    if correction is not None:
        rows = CorrectedRows(rows, correction)
    grid = levels(spec)
    if spec.qtype.kind == "codebook" and not grid.book:
        importance = None if moments is None else np.diag(moments)
        grid = Levels.of(learned(rows, 1 << spec.qtype.bits, block_size(spec), importance))
    codes = np.empty(values.shape, np.int8 if grid.low < 0 else np.uint8)
    form = spec.scale
    if form in STORED:
        form = "half" if values.dtype == np.float16 or form != "f32" else "f32"
    found = round_blocks(rows, grid, block_size(spec), method, moments, form=form, out=turned(codes, spec))
    return Rounded(found.grid.scale, found.grid.zero_point, found.codes, found.method, found.loss, grid)


def block_values(encoding: Encoding) -> F32:
    """The values that codes in blocks stand for, in the layout of the weight."""
    assert encoding.codes is not None
    return values_of(encoding.codes, encoding)


def units(model: ir.Model, plan: QuantPlan) -> list[list[Site]]:
    """The sites that are encoded together, layers in the order of the graph; a table goes with the layer that it is.

    Tables that are no layer come first, as they do in the model.
    """
    sites = blocked(plan)
    nodes = {node.name: node for node in model.nodes}
    place = {node.name: number for number, node in enumerate(ir.topological(model.graph))}
    specs = {site: along(spec, 0, 0) for site in sites if (spec := plan.sites[site].choice) is not None}
    tables = {site.tensor: specs[site] for site in sites if nodes[site.consumer].op == "Gather"}
    ties = tied(model) if tables else {}
    found: dict[object, list[Site]] = defaultdict(list)
    for site in sorted(sites, key=lambda site: (nodes[site.consumer].op == "Gather", place[site.consumer])):
        table = ties.get(site.consumer, "")
        found[table if tables.get(table) == specs[site] else site.tensor, specs[site]].append(site)
    return sorted(found.values(), key=lambda unit: place[unit[0].consumer])


def in_tables(model: ir.Model, plan: QuantPlan) -> frozenset[Site]:
    """The layers' sites that are encoded together with a table."""
    op = {node.name: node.op for node in model.nodes}
    return frozenset(
        site
        for unit in units(model, plan)
        if any(op[one.consumer] == "Gather" for one in unit)
        for site in unit
        if op[site.consumer] != "Gather"
    )
