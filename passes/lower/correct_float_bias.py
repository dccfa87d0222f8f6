"""Float biases that take back what rounding the weights adds on average, by what normalizations promise.

    y = W x + b,   Wq = W + D:   b - D E[x]

as in `correct-bias`, for layers whose weights alone are stored in fewer bits, and with E[x] from `promised_means`, so
that no data is needed. The bias of a Conv or Gemm is changed, or made; that of a MatMul is the constant Add behind it.

Source: Nagel, van Baalen, Blankevoort, Welling, "Data-free quantization through weight equalization and bias
correction" (ICCV 2019), section 4.2.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from qcompiler import ir
from qcompiler.numerics.normal_moments import Moments
from qcompiler.passes.lower.codes import codes_of, values_of
from qcompiler.passes.plan.correct_bias import response
from qcompiler.passes.plan.promised_means import promised
from qcompiler.passes.plan.taps import Reading, input_channels, shares
from qcompiler.pipeline import GraphPass, PassRecord
from qcompiler.quant import Encoding, QuantPlan, Site
from qcompiler.rewrite import Refusal

F64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class CorrectFloatBias(GraphPass):
    """Corrects layers with quantized weights. Runs in front of `materialise`.

    Attributes:
        plan: with final encodings of weights.
        known: what folded normalizations promise.
    """

    name: ClassVar[str] = "correct-float-bias"
    plan: QuantPlan
    known: Mapping[str, Moments]

    def apply(self, model: ir.Model, record: PassRecord) -> None:
        """Changes constants of the main graph; adds no node."""
        edit, means = ir.Editor(model, model.graph), promised(model, self.known)
        for node in model.nodes:
            decision = self.plan.sites.get(Site(node.inputs[1].name, node.name, 1)) if len(node.inputs) > 1 else None
            encoding = None if decision is None else decision.encoding
            moments = means.get(node.inputs[0].name)
            if encoding is None or moments is None or encoding.method == "given" or not float_bias(self.plan, node):
                continue
            place = where(edit, node)
            if place is None:
                record.refusals.append(Refusal(self.name, node.name, "it adds no constant"))
                continue
            if moments.mean.size != input_channels(node) or not sums_over_channels(node):
                reason = "it sums over other channels than those of the normalization"
                record.refusals.append(Refusal(self.name, node.name, reason))
                continue
            shift = response(node, error(node, encoding), reading(node, moments))
            correct(edit, node, *place, shift)
            record.changes += 1


def float_bias(plan: QuantPlan, node: ir.Node) -> bool:
    """Whether a node is a layer whose bias, if it has one, stays float."""
    if node.domain or node.op not in ("Conv", "Gemm", "MatMul") or len(node.inputs[1].shape) < 2:
        return False
    return len(node.inputs) < 3 or Site(node.inputs[2].name, node.name, 2) not in plan.sites


def sums_over_channels(node: ir.Node) -> bool:
    """Whether a layer sums over axis 1 of its input."""
    shape = node.inputs[0].shape
    return node.op == "Conv" or (not node.attrs.get("transA", 0) and shape is not None and len(shape) == 2)


def where(edit: ir.Editor, node: ir.Node) -> tuple[ir.Node, int] | None:
    """The operand that is the bias of a layer, or would be."""
    if node.op == "Gemm" and (float(node.attrs.get("alpha", 1)) != 1 or float(node.attrs.get("beta", 1)) != 1):
        return None
    if node.op != "MatMul":
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        free = bias is None or not bias.name or (isinstance(bias, ir.Constant) and len(bias.shape) == 1)
        return (node, 2) if free else None
    add = edit.only_use(node.outputs[0])
    if add is None or add.op != "Add" or len(node.inputs[1].shape) != 2:
        return None
    port = 1 if add.inputs[0] is node.outputs[0] else 0
    bias = add.inputs[port]
    columns = int(node.inputs[1].shape[1])
    return (add, port) if isinstance(bias, ir.Constant) and bias.shape and bias.shape[-1] == columns else None


def error(node: ir.Node, encoding: Encoding) -> F64:
    """D."""
    exact = ir.array(node.inputs[1])
    return np.asarray(values_of(codes_of(node.inputs[1], encoding), encoding).astype(np.float64) - exact)


def reading(node: ir.Node, moments: Moments) -> Reading:
    """What a layer reads, taken to stand at its means."""
    return Reading(moments.mean, np.square(moments.mean), shares(node))


def correct(edit: ir.Editor, node: ir.Node, holder: ir.Node, port: int, shift: F64) -> None:
    """Subtracts `shift` from a bias, or gives the layer one."""
    old = holder.inputs[port] if port < len(holder.inputs) and holder.inputs[port].name else None
    values = (np.zeros(shift.size) if old is None else ir.array(old).astype(np.float64)) - shift
    dtype = np.dtype(node.inputs[1].dtype)
    made = edit.constant(f"{node.name}_bias_corrected", values.astype(dtype))
    edit.set_input(holder, port, made)
