"""Relu(Concat(a, ..., z)) -> Concat(Relu(a), ..., Relu(z)). Exact; Clip likewise.

An integer Conv computes the Relu behind it for nothing, a Concat does not: it would be written in full, read by a float
Relu, and quantized again. It pays where each operand is the result of a node that absorbs the activation.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from qcompiler import ir
from qcompiler.passes.condition.integer_forms import region_with_forms
from qcompiler.passes.plan.bounds import expressible
from qcompiler.passes.plan.region import Region
from qcompiler.pipeline import GraphPass, PassRecord
from qcompiler.quant import QSpec
from qcompiler.rewrite import Refusal
from qcompiler.targets import TargetSpec

ACTIVATIONS = ("Relu", "Clip")


@dataclass(frozen=True)
class ReluBeforeConcat(GraphPass):
    """Moves activations from the result of a Concat to its operands. Runs before the other integer forms.

    Attributes:
        target: decides which nodes compute in integers.
        spec: how activations are stored.
        keep_float: as in `annotate`.
        aliases: filled by the pass: the operand whose values, cut off, a new tensor holds.
    """

    name: ClassVar[str] = "relu-before-concat"
    target: TargetSpec
    spec: QSpec
    keep_float: tuple[str, ...] = ()
    aliases: dict[str, str] = field(default_factory=dict)

    def apply(self, model: ir.Model, record: PassRecord) -> None:
        """Rewrites pairs of the main graph; the Concat gives the result, under the name that the activation gave it."""
        edit = ir.Editor(model, model.graph)
        pairs = [
            (node, behind)
            for node in model.nodes
            if node.op == "Concat"
            and (behind := edit.only_use(node.outputs[0])) is not None
            and behind.op in ACTIVATIONS
            and not (node.domain or behind.domain)
        ]
        if not pairs:
            return
        region = region_with_forms(model, self.target, self.spec, self.keep_float)
        for concat, activation in pairs:
            reason = refusal(region, concat, activation)
            if reason is None:
                self._rewrite(edit, concat, activation)
                record.changes += 1
            else:
                record.refusals.append(Refusal(self.name, concat.name, reason))

    def _rewrite(self, edit: ir.Editor, concat: ir.Node, activation: ir.Node) -> None:
        operands, bounds, y = list(concat.inputs), activation.inputs[1:], activation.outputs[0]
        attrs = dict(activation.attrs)
        edit.set_outputs(activation, [])
        edit.erase(activation)
        cut = []
        for port, x in enumerate(operands):
            name = f"{concat.name}_{activation.op.lower()}_{port}"
            node = edit.add(activation.op, [x, *bounds], name=name, attrs=attrs, like=x, before=concat)
            cut.append(node.outputs[0])
            self.aliases[node.outputs[0].name] = self.aliases.get(x.name, x.name)
        edit.set_inputs(concat, cut)
        edit.set_outputs(concat, [y])


def refusal(region: Region, concat: ir.Node, activation: ir.Node) -> str | None:
    """Why the activation must stay behind the Concat."""
    for node in (concat, activation):
        if node.name in region.kept:
            return region.kept[node.name]
    if not expressible(activation, activation.inputs[0]):
        return f"bounds of {activation.op} {activation.name!r} are not constant, or no integers express them"
    for x in concat.inputs:
        producer = x.inputs[0] if x.inputs else None
        if producer is None or producer.name not in region.rules:
            return f"{x.name!r} is not computed in integers"
        if activation.op not in region.rules[producer.name].absorbs:
            return f"{producer.op} {producer.name!r} does not absorb {activation.op}"
        if region.edit.only_use(x) is not concat:
            return f"{x.name!r} is read by others too"
    return None
