"""The rest of the graph in 16-bit floats: f(x) -> Cast(f16(Cast(x))), inputs and outputs of the model keep their types.

TensorRT's networks are strongly typed: what the file says is what runs (fact sheet, section 0, rule 5). A value has one
type, that of the node that computes it; where another one reads it a Cast stands between, one for each value and type.
Which operands an operator takes in 16 bits is read from the ONNX standard itself: a port whose type there has no
float16 (scales of Resize, Range) stays float32. `keep_single` says which whole nodes do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from ml_dtypes import bfloat16
from onnx import TensorProto

from qcompiler import ir
from qcompiler.backends.tensorrt.keep_single import Single, is_single, lost
from qcompiler.passes.lower.two_levels import DOMAIN, DYNAMIC
from qcompiler.passes.plan.encode import Ranges
from qcompiler.passes.prepare.purity import NAMED
from qcompiler.pipeline import GraphPass, PassRecord, some

HALF, BF16 = np.dtype(np.float16), np.dtype(bfloat16)
TYPES = {HALF: TensorProto.FLOAT16, BF16: TensorProto.BFLOAT16}
SINGLE = np.dtype(np.float32)
OWN = frozenset({(DYNAMIC, 0, False)})
SHOWN = 3
TYPES_ONLY = 23
"""Opsets 22 and 23 add types to operators of opset 21, and change none; 22 is the first with bfloat16 for Conv."""


@dataclass(frozen=True)
class ToHalf(GraphPass):
    """Makes floats 16 bits wide. Runs on the graph with Q and DQ.

    Attributes:
        bf16: bfloat16 in place of float16.
        stats: extremes of values, for what overflows.
        exempt: names of values that may be large (`soften_masks`).
    """

    name: ClassVar[str] = "to-half"
    bf16: bool = False
    stats: Ranges | None = None
    exempt: set[str] = field(default_factory=set)

    def apply(self, model: ir.Model, record: PassRecord) -> None:
        """Each node that computes in 16 bits is a change; notes say which do not, and why."""
        if self.bf16 and model.opset < TYPES_ONLY:
            model.opset = TYPES_ONLY - 1
        named = [*model.constants(), *(tensor for node in model.nodes for tensor in node.outputs)]
        exempt = frozenset(id(tensor) for tensor in named if tensor.name in self.exempt)
        single = Single(model, self.stats, not self.bf16, exempt)
        Caster(model, BF16 if self.bf16 else HALF, single).run(record)
        record.notes += notes(model, single)
        if single.unseen and self.stats is not None:
            seen = ", ".join(dict.fromkeys(single.unseen[:SHOWN]))
            record.notes.append(f"nothing is known of the range of {len(set(single.unseen))} values, such as {seen}")
        if not self.bf16 and self.stats is None:
            record.notes.append("without calibration data nothing says whether values overflow float16")


@dataclass(eq=False)
class Caster:
    """Turns one model.

    Attributes:
        half: the 16-bit type.
        single: nodes that stay as they are.
    """

    model: ir.Model
    half: np.dtype[Any]
    single: Single

    def __post_init__(self) -> None:
        self.edit = ir.Editor(self.model, self.model.graph)
        self.cast: dict[tuple[int, np.dtype[Any]], ir.Tensor] = {}
        # values that were float32 at first, by id: the others are none of our business
        self.floats = {id(t): t for node in self.model.nodes for t in [*node.inputs, *node.outputs] if is_single(t)}

    def run(self, record: PassRecord) -> None:
        """Retypes results, then casts operands."""
        nodes = self.model.nodes
        outputs = {id(t): t.name for t in self.model.outputs}
        for node in nodes:
            stays = id(node) in self.single.reasons
            for port, tensor in enumerate(node.outputs):
                if not stays and id(tensor) in self.floats and self._fits(node, port, result=True):
                    self.edit.retype(tensor, self.half, tensor.shape)
            if not stays and any(t.dtype == self.half for t in node.outputs):
                self._attributes(node)
                record.changes += 1
        for node in nodes:
            if list(node.subgraphs()):
                self._captured(node)
            for port, tensor in enumerate(node.inputs):
                if id(tensor) not in self.floats:
                    continue
                stays = id(node) in self.single.reasons
                wanted = self.half if not stays and self._fits(node, port, result=False) else SINGLE
                if wanted != np.dtype(tensor.dtype):
                    self.edit.set_input(node, port, self._as(tensor, wanted))
        for tensor in list(self.model.outputs):
            if id(tensor) in outputs and id(tensor) in self.floats and np.dtype(tensor.dtype) == self.half:
                self._output(tensor)
        self.edit.drop_unused_constants()
        self.edit.sort()

    def _fits(self, node: ir.Node, port: int, *, result: bool) -> bool:
        kind = "tensor(bfloat16)" if self.half == BF16 else "tensor(float16)"
        return takes_half(node.op, node.domain or "", self.model.opset, port, result, kind)

    def _as(self, tensor: ir.Tensor, wanted: np.dtype[Any]) -> ir.Tensor:
        """The value in another type, made once."""
        key = id(tensor), wanted
        if key not in self.cast:
            suffix = "half" if wanted == self.half else "single"
            if isinstance(tensor, ir.Constant):
                self.cast[key] = self.edit.constant(f"{tensor.name}_{suffix}", narrowed(ir.array(tensor), wanted))
            else:
                out = self.edit.variable(f"{tensor.name}_{suffix}", wanted, tensor.shape)
                to = TYPES.get(wanted, TensorProto.FLOAT)
                self.edit.add("Cast", [tensor], name=f"{tensor.name}_{suffix}", attrs={"to": int(to)}, outputs=[out])
                self.cast[key] = out
        return self.cast[key]

    def _output(self, tensor: ir.Tensor) -> None:
        """Behind a result of the model: a Cast that has its name and type."""
        out = self.edit.variable(f"{tensor.name}_out", SINGLE, tensor.shape)
        attrs = {"to": int(TensorProto.FLOAT)}
        node = self.edit.add("Cast", [tensor], name=f"{tensor.name}_single", attrs=attrs, outputs=[out])
        readers = [use.node for use in self.edit.uses(tensor) if use.node is not None and use.node is not node]
        self.edit.retype(tensor, SINGLE, tensor.shape)  # what takes over the name takes over the type
        self.edit.replace_uses(tensor, out, keep=[node, *readers])
        self.edit.retype(tensor, self.half, tensor.shape)

    def _captured(self, node: ir.Node) -> None:
        """What the subgraphs of a node read from the main graph stays float32 for them."""
        for graph in node.subgraphs():
            inner = ir.Editor(self.model, graph, self.edit.taken)
            for child in list(graph.nodes):
                self._captured(child)
                for port, tensor in enumerate(child.inputs):
                    if id(tensor) in self.floats and np.dtype(tensor.dtype) == self.half:
                        inner.set_input(child, port, self._as(tensor, SINGLE))

    def _attributes(self, node: ir.Node) -> None:
        """Types that a node names itself."""
        if node.op == "Cast" and int(node.attrs.get("to", 0)) == TensorProto.FLOAT:
            node.attrs["to"] = int(TYPES[self.half])
        elif node.op == "DequantizeLinear" and int(node.attrs.get("output_dtype", 0)) == TensorProto.FLOAT:
            node.attrs["output_dtype"] = int(TYPES[self.half])


def notes(model: ir.Model, single: Single) -> Iterator[str]:
    """Why nodes with floats stay in float32: one sentence for each reason, with the first names."""
    found: dict[str, list[str]] = {}
    for node in model.nodes:
        reason = single.reasons.get(id(node))
        if reason is not None and any(map(is_single, [*node.inputs, *node.outputs])):
            found.setdefault(reason, []).append(node.name)
    for reason, names in found.items():
        verb = "stays" if len(names) == 1 else "stay"
        yield f"{some(names, SHOWN)} {verb} in float32: {reason}"


def narrowed(values: npt.NDArray[Any], wanted: np.dtype[Any]) -> npt.NDArray[Any]:
    """A constant in another float type; what float16 cannot hold saturates, as in masks that were not replaced."""
    if wanted == HALF and lost(values) == "becomes infinite":
        values = np.clip(values, np.finfo(HALF).min, np.finfo(HALF).max)
    return values.astype(wanted)


@cache
def takes_half(op: str, domain: str, opset: int, port: int, result: bool, kind: str) -> bool:
    """Whether a port of an operator may be of a 16-bit type, by the ONNX standard; of other domains, by `OWN`."""
    if domain == DOMAIN:
        return (op, port, result) in OWN
    # none is known where ONNX Runtime has an operator of its own in the standard's domain
    schema = None if domain or op in NAMED else ir.schema(op, opset)
    if schema is None:
        return False
    formal = schema.outputs if result else schema.inputs
    if not formal:
        return False
    variable = formal[min(port, len(formal) - 1)].type_str
    return any(kind in c.allowed_type_strs for c in schema.type_constraints if c.type_param_str == variable)
