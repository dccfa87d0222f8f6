"""ONNX opset v -> 21, node by node: whatever node has another form in the new opset is rewritten.

Nodes whose operator did not change between the two versions stay as they are. Of the others, one of each kind is given
to onnx.version_converter (see `node_conversion`); where the answer differs from the question it takes the node's place.
So no weight is ever copied, subgraphs are converted too, and nothing is lost that the converter has no place for.
Operators of other domains have opsets of their own and stay.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from onnx import NodeProto, helper

from qcompiler import ir
from qcompiler.passes.prepare.node_conversion import CannotConvertError, Question, convert
from qcompiler.pipeline import GraphPass, PassRecord

KEPT = {"Constant", "If", "Loop", "Scan"}
"""Operators whose later forms differ in the types they accept only; Scan since opset 9."""
FIRST_SCAN = 9


@dataclass(frozen=True)
class ConvertOpset(GraphPass):
    """Raises the opset of the model.

    Attributes:
        target: the opset to reach; models that have it or a later one stay.
    """

    name: ClassVar[str] = "convert-opset"
    target: int = 21

    def apply(self, model: ir.Model, record: PassRecord) -> None:
        """Converts every graph to the highest opset that all nodes can reach; notes that, and what was in the way."""
        old = version = model.opset
        if old >= self.target:
            return
        version, why, answers = _plan(model, old, self.target)
        if version == old:
            record.notes.append(f"opset {old} kept: {why}")
            return
        for edit in ir.editors(model):
            for node in list(edit.graph.nodes):
                question = ask(node, old, version)
                if question is not None and answers[question]:
                    ir.graft(edit, node, answers[question])
                    record.changes += 1
        model.opset = version
        opsets = [opset for opset in model.header.opset_import if not opset.domain]
        model.header.ir_version = max(model.header.ir_version, helper.find_min_ir_version_for(opsets))
        record.changes += 1
        record.notes.append(f"opset {old} converted to {version}" + (f", not {self.target}: {why}" if why else ""))


def _plan(model: ir.Model, old: int, target: int) -> tuple[int, str, Mapping[Question, tuple[NodeProto, ...]]]:
    """The highest opset that can be reached, what is in the way beyond it, and the new nodes."""
    version, why = target, ""
    while version > old:
        questions = {question: node for node in model.all_nodes() if (question := ask(node, old, version)) is not None}
        try:
            return version, why, convert(list(questions), old, version)
        except CannotConvertError as error:
            culprit = questions[error.question]
            why = f"{culprit.op} {culprit.name!r} has no form in opset {error.reached + 1} ({error.reason})"
            version = error.reached
    return old, why, {}


def ask(node: ir.Node, old: int, new: int) -> Question | None:
    """What to ask the converter about a node; None where its operator is the same in both opsets.

    Nodes that differ in nothing but names ask the same question.
    """
    if node.domain or (node.op in KEPT and (node.op != "Scan" or old >= FIRST_SCAN)):
        return None
    since = ir.since(node.op, old)
    if since is None or since == ir.since(node.op, new):
        return None
    return Question.of(node)
