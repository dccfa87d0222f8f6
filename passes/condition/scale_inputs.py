"""x W^T = (x / s) (W s)^T: channels that matter are made large in the weights that are rounded, for nothing.

s comes from `awq.search` on the second moments of x; 1 / s goes into what gives x, where that can take it:

    x = Mul(y, gamma), gamma constant      RMSNorm, LayerNorm written out:  gamma / s
    x = LayerNormalization(y, gamma, beta), RMSNormalization(y, gamma):     gamma / s, beta / s
    x, ... = SkipSimplifiedLayerNormalization(y, skip, gamma)               the same; the sum that it gives, too, stays
    x = Mul(a, MatMul(y, V)), once read    the product of a gated layer:    V / s, by column

A Reshape that keeps the last axis may stand between, as before each Gemm of a block.
All readers of x must be layers whose weights are rounded; a residual connection that reads x, too, forbids it, and so
does a weight that is a table, too, in the same form: scaled, it would no longer be one copy.

Source: Lin et al., "AWQ: Activation-aware Weight Quantization for LLM Compression and Acceleration" (2024).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from qcompiler import ir
from qcompiler.numerics.awq import search
from qcompiler.numerics.block_range import COARSE, least_squares
from qcompiler.numerics.block_rounding import FITTED
from qcompiler.passes.plan.encode_blocks import block_size, blocked, in_tables, levels, turned
from qcompiler.pipeline import GraphPass, PassRecord
from qcompiler.quant import QSpec, QuantPlan
from qcompiler.rewrite import Refusal

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
NORMS = {
    "LayerNormalization": (1, 2),
    "RMSNormalization": (1,),
    "SimplifiedLayerNormalization": (1,),
    "SkipLayerNormalization": (2, 3),
    "SkipSimplifiedLayerNormalization": (2,),
}
"""Norms, and which of their inputs are gamma and beta."""


class Factors(NamedTuple):
    """s of one value, and how many times as much nearest rounding loses with it; 1 where nothing is gained."""

    s: F32
    gain: float


class Known(Protocol):
    """Factors that were found before, by value."""

    def get(self, name: str, /) -> Factors | None:
        """Those of a value."""

    def put(self, name: str, found: Factors, /) -> None:
        """Keeps those of a value."""


@dataclass(frozen=True)
class ScaleInputs(GraphPass):
    """Rescales the inputs of layers whose weights the plan stores in blocks; weights on disk stay there.

    Attributes:
        plan: says which.
        moments: sum of x x^T of a tensor, None if unknown; asked for once each, in the order of the graph.
        known: factors of an earlier run; gets those of this one.
    """

    name: ClassVar[str] = "scale-inputs"
    plan: QuantPlan
    moments: Callable[[str], F64 | None]
    known: Known | None = None

    def apply(self, model: ir.Model, record: PassRecord) -> None:
        """Each rescaled value is a change; values that could not be are refused with the reason."""
        edit = ir.Editor(model, model.graph)
        specs = {(site.consumer, site.port): self.plan.sites[site].choice for site in blocked(self.plan)}
        gains, tables = [], {site.consumer for site in in_tables(model, self.plan)}
        for name, tensor in {t.name: t for node in model.nodes for t in node.outputs if t.name}.items():
            if not any((node.name, 1) in specs for node in tensor.outputs):
                continue
            users = [use for use in edit.uses(tensor) if _reads(use.node)]
            taken = [specs.get((use.node.name, 1)) if use.node is not None and use.port == 0 else None for use in users]
            reason = None if all(taken) else f"{name!r} has readers that do not take scales"
            if reason is None and any(use.node is not None and use.node.name in tables for use in users):
                reason = f"{name!r} is read by a layer whose weight is a table, too"
            made = _made(edit, tensor)
            reason = reason or _closed(edit, made)
            if reason is not None:
                record.refusals.append(Refusal(self.name, tensor.inputs[0].name, reason))
                continue
            layers = [(use.node, spec) for use, spec in zip(users, taken, strict=True) if use.node is not None and spec]
            found = self._factors(name, layers)
            if found is not None and found.gain < 1:
                self._scale(edit, made, layers, found.s)
                record.changes += 1
                gains.append(found.gain)
        if gains:
            record.notes.append(
                f"{len(gains)} inputs rescaled; nearest rounding loses {np.mean(gains):.3f} times as much"
            )

    def _factors(self, name: str, layers: list[tuple[ir.Node, QSpec]]) -> Factors | None:
        found = None if self.known is None else self.known.get(name)
        if found is None and (moments := self.moments(name)) is not None:
            s, after, before = self._search(layers, moments)
            found = Factors(s, after / before if after < before else 1.0)
            if self.known is not None:
                self.known.put(name, found)
        return found

    @staticmethod
    def _search(layers: list[tuple[ir.Node, QSpec]], moments: F64) -> tuple[F32, float, float]:
        spec = layers[0][1]
        grid, size = levels(spec), block_size(spec)
        weights = [_some_rows(ir.array(node.inputs[1]), own) for node, own in layers]
        return search(weights, moments, lambda w, h: least_squares(w, grid, size, np.diag(h), COARSE).nearest(w))

    @staticmethod
    def _scale(edit: ir.Editor, tensor: ir.Tensor, layers: list[tuple[ir.Node, QSpec]], s: F32) -> None:
        for node, spec in layers:
            along = s[:, None] if spec.granularity.axis == 0 else s[None, :]  # type: ignore[union-attr]
            _replace(edit, node, 1, np.multiply, along)
        source = tensor.inputs[0]
        if source.op in NORMS:
            for port in _given(source):
                _replace(edit, source, port, np.divide, s)
            return
        layer, port = _gate(edit, source), 1
        if layer is None:
            layer, port = source, next(p for p, t in enumerate(source.inputs) if isinstance(t, ir.Constant))
        _replace(edit, layer, port, np.divide, s)


def _some_rows(values: npt.NDArray[np.floating], spec: QSpec) -> F32:
    """Rows from all over a matrix, all of them where it is not large: what gains on them gains on the others."""
    rows = turned(values, spec)[:: max(1, -(-values.size // FITTED))]
    return np.ascontiguousarray(rows, np.float32)


def _replace(edit: ir.Editor, node: ir.Node, port: int, by: np.ufunc, s: F32) -> None:
    old = node.inputs[port]
    scaled = partial(_scaled, old, by, s)
    values = ir.Deferred(old.shape, old.dtype, scaled) if ir.on_disk(old) else scaled()
    edit.set_input(node, port, edit.constant(f"{old.name}_scaled", values))


def _scaled(constant: ir.Constant, by: np.ufunc, s: F32) -> npt.NDArray[np.floating]:
    values = ir.array(constant)
    return np.asarray(by(values, s), values.dtype)


def _given(norm: ir.Node) -> list[int]:
    """The inputs of a norm that are gamma and beta."""
    return [port for port in NORMS[norm.op] if port < len(norm.inputs) and norm.inputs[port].name]


def _made(edit: ir.Editor, tensor: ir.Variable) -> ir.Variable:
    """The value that a Reshape with no other reader beside it gave another form, its last axis kept; else itself."""
    node = tensor.inputs[0]
    while node.op == "Reshape" and node.inputs[0].inputs and _readers(edit, node.inputs[0]) == [node.name]:
        before = node.inputs[0]
        width = before.shape[-1] if before.shape else None
        if not isinstance(width, int) or not tensor.shape or tensor.shape[-1] != width:
            break
        tensor, node = before, before.inputs[0]
    return tensor


def _readers(edit: ir.Editor, tensor: ir.Tensor) -> list[str | None]:
    """Who reads a value, not only its shape; None for the user of the model."""
    names = (None if use.node is None else use.node.name for use in edit.uses(tensor) if _reads(use.node))
    return list(names)


def _reads(node: ir.Node | None) -> bool:
    return node is None or node.op != "Shape"


def _closed(edit: ir.Editor, tensor: ir.Tensor) -> str | None:
    """Why what gives a value cannot take in factors of its last axis."""
    source = tensor.inputs[0]
    width = tensor.shape[-1] if tensor.shape else None
    if source.op in NORMS:
        parts = [source.inputs[port] for port in _given(source)]
        if (
            tensor is source.outputs[0]
            and all(isinstance(t, ir.Constant) and list(t.shape) == [width] for t in parts)
            and parts
        ):
            return None
    elif source.op == "Mul":
        constants = [t for t in source.inputs if isinstance(t, ir.Constant)]
        if len(constants) == 1 and list(constants[0].shape) == [width]:
            return None
        if not constants and _gate(edit, source) is not None:
            return None
    return f"{source.op} {source.name!r} cannot take in factors"


def _gate(edit: ir.Editor, product: ir.Node) -> ir.Node | None:
    """The layer without bias, read once, whose result is one factor of a product."""
    for tensor in product.inputs:
        layer = tensor.inputs[0] if tensor.inputs else None
        if layer is None or layer.op != "MatMul" or edit.only_use(tensor) is not product:
            continue
        weight = layer.inputs[1]
        if isinstance(weight, ir.Constant) and len(weight.shape) == 2 and len(edit.uses(weight)) == 1:
            return layer
    return None
