"""f(constants) -> a constant, computed by ONNX Runtime with optimisation off.

A result larger than `limit` bytes is computed only if it is no larger than what goes in (a Cast may widen elements), so
that ConstantOfShape, Expand or Tile cannot blow the model up. Sizes are known before anything is computed, from shape
inference over the constants. Rounds follow each other while results make further sizes known.

Never folded: quantize and dequantize nodes, since a constant behind them is a weight in its quantized form; random
operators; nodes with subgraphs; other domains; results that are not dense tensors of a type that NumPy has; a Reshape
of what a node of another domain reads as it is: packed weights that are table and output layer would lie there twice.
Source: ONNX operator standard; ONNX shape inference.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from math import prod
from typing import ClassVar

import numpy as np
from onnx import TensorProto, TypeProto, helper

from qcompiler import ir
from qcompiler.passes.prepare.evaluate import NATIVE, Evaluation, infer_types
from qcompiler.passes.prepare.infer_shapes import dims
from qcompiler.passes.prepare.purity import QUANTIZED, is_random
from qcompiler.pipeline import GraphPass, PassRecord
from qcompiler.rewrite import Refusal

LARGEST = 1 << 30
"""Bytes that no result may exceed, whatever goes in."""
WIDENING = 8
"""How many times more bytes an element may have after a Cast."""
STRING_BYTES = 64
"""What an element of a string tensor is counted as."""
SELECTING = {"NonZero", "Compress", "Unique"}
"""Operators with results of unknown size, but of no more than one index per element and axis."""
ROUNDS = 64


@dataclass(frozen=True)
class FoldConstants(GraphPass):
    """Computes what depends on constants only, in all scopes.

    Attributes:
        limit: bytes that a result may have in any case.
    """

    name: ClassVar[str] = "fold-constants"
    limit: int = 1 << 20

    def apply(self, model: ir.Model, record: PassRecord) -> None:
        """Each node that goes is a change; nodes that could be computed and stay are refused with the reason."""
        for edit in ir.editors(model):
            refused: dict[str, str] = {}
            for _ in range(ROUNDS):
                erased = _Round(edit, self.limit, refused).run()
                record.changes += erased
                if not erased:
                    break
            record.refusals += [Refusal(self.name, name, reason) for name, reason in refused.items()]


@dataclass
class _Round:
    """One round over one graph.

    Attributes:
        refused: reasons by node name.
        sizes: bytes of the results chosen so far, by tensor id.
    """

    edit: ir.Editor
    limit: int
    refused: dict[str, str]
    sizes: dict[int, int] = field(default_factory=dict)

    def run(self) -> int:
        """Folds what can be folded now; the number of nodes that went."""
        candidates = self._candidates()
        types = infer_types(self.edit.model, candidates) if candidates else {}
        chosen = [node for node in candidates if self._choose(node, types)]
        if not chosen:
            return 0
        evaluation = Evaluation(self.edit)
        evaluation.run(chosen)
        self.refused |= evaluation.failed
        for tensor, value in evaluation.values.values():
            ir.freeze(self.edit, tensor, value)
        erased = 0
        for node in reversed(chosen):
            if not any(self.edit.uses(tensor) for tensor in node.outputs):
                self.edit.erase(node)
                erased += 1
        return erased

    def _candidates(self) -> list[ir.Node]:
        """Nodes all of whose inputs are constants or results of such nodes, in topological order."""
        if not any(_given(node.inputs, ()) and self._may_fold(node) for node in self.edit.graph.nodes):
            return []
        pending: set[int] = set()
        found = []
        for node in ir.topological(self.edit.graph):
            if _given(node.inputs, pending) and self._may_fold(node):
                found.append(node)
                pending.update(id(tensor) for tensor in node.outputs)
        return found

    def _may_fold(self, node: ir.Node) -> bool:
        if is_random(node) or node.op in QUANTIZED or node.name in self.refused or any(True for _ in node.subgraphs()):
            return False
        if node.op == "Reshape" and any(
            use.node is not None and use.node.domain for use in self.edit.uses(node.inputs[0])
        ):
            return False
        # an Identity that carries a constant to an output is how a constant becomes an output
        return bool(node.inputs) and not (node.op == "Identity" and self.edit.is_output(node.outputs[0]))

    def _choose(self, node: ir.Node, types: dict[str, TypeProto]) -> bool:
        """Whether to compute the node in this round; notes the sizes of its results, or the reason against it."""
        if not _given(node.inputs, self.sizes):
            return False
        inputs = list({id(tensor): tensor for tensor in node.inputs if tensor.name}.values())
        ready = _given(inputs, ())
        given = sum(
            ir.nbytes(tensor) if isinstance(tensor, ir.Constant) else self.sizes[id(tensor)] for tensor in inputs
        )
        allowed = min(max(self.limit, given * (WIDENING if node.op == "Cast" else 1)), LARGEST)
        reason = _overflow(node)
        sizes: dict[int, int] = {}
        for tensor in (tensor for tensor in node.outputs if tensor.name):
            size = _size(node, types.get(tensor.name))
            if isinstance(size, int) and size > allowed:
                size = f"would take {size} bytes, more than {allowed}"
            if isinstance(size, str):
                reason = f"result {tensor.name!r} of {node.op} {node.name!r} {size}"
            else:
                sizes[id(tensor)] = size
        if reason is not None:
            if ready:
                self.refused[node.name] = reason
            return False
        self.sizes |= sizes
        return True


def _given(tensors: Iterable[ir.Tensor], pending: Container[int]) -> bool:
    """Whether every tensor is a constant or one of `pending`."""
    return all(not tensor.name or isinstance(tensor, ir.Constant) or id(tensor) in pending for tensor in tensors)


def _overflow(node: ir.Node) -> str | None:
    """Why an integer division cannot be tried: the smallest integer by -1 stops the process."""
    if node.op not in ("Div", "Mod") or len(node.inputs) < 2:
        return None
    divisor = node.inputs[1]
    if not isinstance(divisor, ir.Constant):
        return f"the divisor of {node.op} {node.name!r} is not known yet" if _may_be_integer(divisor) else None
    values = ir.array(divisor)
    if values.dtype.kind == "i" and bool((values == -1).any()):
        return f"{node.op} {node.name!r} divides by -1, which may overflow"
    return None


def _may_be_integer(tensor: ir.Tensor) -> bool:
    return tensor.dtype is None or np.dtype(tensor.dtype).kind == "i"


def _size(node: ir.Node, type_proto: TypeProto | None) -> int | str:
    """Bytes of a result, or why it cannot be folded."""
    if type_proto is None or not type_proto.HasField("tensor_type"):
        return "is not a dense tensor" if type_proto is not None else "has no known type"
    elem_type = type_proto.tensor_type.elem_type
    if elem_type == TensorProto.STRING:
        item = STRING_BYTES
    else:
        dtype = helper.tensor_dtype_to_np_dtype(elem_type)
        if dtype not in NATIVE:
            return f"is {dtype}, which NumPy lacks"
        item = dtype.itemsize
    shape = dims(type_proto)
    if shape is not None and all(isinstance(dim, int) for dim in shape):
        return prod(int(dim or 0) for dim in shape) * int(item)
    if node.op in SELECTING and _given(node.inputs, ()):
        most = max(prod(tensor.shape) * max(len(tensor.shape), 1) for tensor in node.inputs if tensor.name)
        return int(most) * max(item, 8)
    return "has a size that is not known in advance"
