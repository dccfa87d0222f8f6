"""Which nodes must stay in float32 in a graph of 16-bit floats, and why.

| node                                        | why                                                                   |
|---------------------------------------------|-----------------------------------------------------------------------|
| writes or reads a value beyond `LIMIT`      | float16 ends at 65504; sums on the way there go further               |
| reads a constant that becomes 0, or infinite| epsilon of a norm, a large factor                                     |
| computes from shapes and constants alone    | sizes and positions: float16 counts to 2048 only                      |
| has no bfloat16 in TensorRT                 | `NO_BF16`                                                             |
| feeds Sin or Cos                            | an angle of 500 is known to 0.25 in float16                           |
| Q, DQ whose scale is no float16, or no      | digits of the scale would be lost (fact sheet, section 6, item 5);    |
| normal one to rounding                      | a product must have both scales in one type: see form f16             |
| holds subgraphs                             | their values would all have to be cast                                |
| LSTM, GRU, RNN with lengths of sequences    | the parser masks them with zeros in float32, and refuses the mixture  |

Constants that only push scores of a Softmax out of sight are another matter: see `soften_masks`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from ml_dtypes import float4_e2m1fn, float8_e4m3fn

from qcompiler import ir
from qcompiler.errors import DataError
from qcompiler.numerics.scale_forms import fits_half
from qcompiler.passes.plan.encode import Ranges
from qcompiler.passes.prepare.purity import GRID

LIMIT = 3e4
"""Half of the largest float16: what calibration did not see may be larger than what it saw."""

FP4, FP8 = np.dtype(float4_e2m1fn), np.dtype(float8_e4m3fn)
NO_BF16 = frozenset({"HardSwish"})
ANGLES = frozenset({"Sin", "Cos"})
CARRY = frozenset(
    {
        "Mul", "Div", "Add", "Sub", "MatMul", "Einsum", "Concat", "Reshape", "Unsqueeze", "Squeeze", "Expand", "Slice",
        "Transpose", "Gather", "Cast", "Range", "Identity", "Neg",
    }
)  # fmt: skip
SOURCES = frozenset({"Shape", "Size"})
RECURRENT, LENGTHS = frozenset({"LSTM", "GRU", "RNN"}), 4
"""Recurrent operators, and their input that holds the lengths of sequences."""


@dataclass(eq=False)
class Single:
    """Nodes that stay in float32, with the reason, by id.

    Attributes:
        model: with Q and DQ, all floats in 32 bits.
        stats: extremes of values; None where there are none.
        half: the type of the rest is float16, not bfloat16, whose range is that of float32.
        exempt: ids of values that may be as large as they like (masks).
        unseen: names of values without statistics.
    """

    model: ir.Model
    stats: Ranges | None
    half: bool
    exempt: frozenset[int] = frozenset()
    reasons: dict[int, str] = field(default_factory=dict)
    unseen: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        fixed = self._fixed()
        for node in self.model.nodes:
            sized = id(node) in fixed and node.op not in SOURCES
            reason = self._own(node) or ("computes from shapes and constants alone" if sized else None)
            if reason is not None:
                self.reasons[id(node)] = reason
        self._angles()

    def _own(self, node: ir.Node) -> str | None:
        if list(node.subgraphs()):
            return "holds subgraphs, which stay in float32"
        if node.op in GRID:
            scale = node.inputs[1]
            if np.dtype(node.inputs[0].dtype) in (FP4, FP8) and (node.inputs[0].dtype == FP4 or feeds_scale(node)):
                return "scales in two levels are float32"
            if self.half and is_single(scale) and isinstance(scale, ir.Constant) and not fits_half(ir.array(scale)):
                return "its scale is no float16 number"
            return None
        if node.op in RECURRENT and len(node.inputs) > LENGTHS and node.inputs[LENGTHS].name:
            return "its sequences have lengths, which TensorRT's parser masks in float32"
        if not self.half:
            return "TensorRT has it in float16 and float32 only" if node.op in NO_BF16 else None
        for tensor in node.inputs:
            if isinstance(tensor, ir.Constant) and is_single(tensor) and id(tensor) not in self.exempt:
                reason = lost(ir.array(tensor))
                if reason is not None:
                    return f"constant {tensor.name!r} {reason} in float16"
        for tensor in [*node.outputs, *node.inputs]:
            if id(tensor) in self.exempt or isinstance(tensor, ir.Constant) or not is_single(tensor):
                continue
            if tensor.inputs and tensor.inputs[0].op in GRID:
                continue  # no larger than what was quantized
            top = self._largest(tensor.name)
            if top > LIMIT:
                return f"{tensor.name!r} reaches {top:.3g}, beyond {LIMIT:.0g}"
        return None

    def _largest(self, name: str) -> float:
        if self.stats is None:
            return 0.0
        try:
            histogram = self.stats.histogram(name)
        except DataError:
            self.unseen.append(name)
            return 0.0
        return max(-histogram.minimum, histogram.maximum) if histogram.finite_count else 0.0

    def _fixed(self) -> set[int]:
        """Nodes that compute from shapes and constants alone."""
        found: set[int] = set()
        known: set[int] = set()
        for node in self.model.nodes:
            present = [tensor for tensor in node.inputs if tensor.name]
            if node.op == "DequantizeLinear":
                continue
            if node.op in SOURCES or all(isinstance(t, ir.Constant) or id(t) in known for t in present):
                found.add(id(node))
                known.update(map(id, node.outputs))
        return found

    def _angles(self) -> None:
        """Sin and Cos, and the arithmetic that makes their angles."""
        queue = [node for node in self.model.nodes if node.op in ANGLES]
        while queue:
            node = queue.pop()
            if id(node) in self.reasons and node.op not in ANGLES:
                continue
            self.reasons[id(node)] = "computes an angle"
            makers = (tensor.inputs[0] for tensor in node.inputs if tensor.inputs)
            queue += [maker for maker in makers if maker.op in CARRY and any(map(is_single, maker.outputs))]


def feeds_scale(node: ir.Node) -> bool:
    """Whether a node computes the scales of another one."""
    return any(reader.op in GRID and reader.inputs[1] is node.outputs[0] for reader in node.outputs[0].outputs)


def is_single(tensor: ir.Tensor) -> bool:
    """Whether a value is float32."""
    return bool(tensor.name) and tensor.dtype is not None and np.dtype(tensor.dtype) == np.float32


def lost(values: npt.NDArray[np.floating]) -> str | None:
    """What float16 makes of constants that they must not become; None where all is well."""
    if not values.size:
        return None
    with np.errstate(over="ignore"):
        halves = values.astype(np.float16)
    if (np.isinf(halves) & np.isfinite(values)).any():
        return "becomes infinite"
    # Of many values a few may vanish; a constant that is one number, or all of whose numbers vanish, must not.
    vanished = (halves == 0) & (values != 0)
    return "becomes 0" if vanished.any() and not (halves[~vanished] != 0).any() else None
