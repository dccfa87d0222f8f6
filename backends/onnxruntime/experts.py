"""MoE -> QMoE: the weights of experts in blocks of few bits, which ONNX Runtime's own operator multiplies.

    fc (experts, n, k) -> codes (experts, n, k bits / 8), scales and zero points (experts, n, k / block)

Each row of an expert is rounded as a row of a layer is (`block_rounding`), without data: which expert sees which token
is not observed. Codes are packed along k, the first in the lowest bits, as in `nbits`; zero points likewise.
Rows must be whole blocks. The plan has no sites for them, so the node stays "float" in the report, and a note says what
was done.

Source: ONNX Runtime, ContribOperators.md, QMoE.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from qcompiler import ir
from qcompiler.backends.onnxruntime.nbits import DOMAIN, packed_rows
from qcompiler.backends.onnxruntime.unpack import together
from qcompiler.numerics.block_rounding import round_blocks
from qcompiler.numerics.levels import Levels
from qcompiler.pipeline import GraphPass, PassRecord
from qcompiler.rewrite import Refusal

KERNELS = (2, 4, 8)
WEIGHTS, BIASES, NAMES = (2, 4, 6), (3, 5, 7), ("fc1", "fc2", "fc3")
FIRST_ZERO = 11


@dataclass(frozen=True)
class UseQMoE(GraphPass):
    """Replaces mixtures of experts whose weights are constants.

    Attributes:
        bits: of the weights, whole numbers; others than `KERNELS` stay float.
        size: of a block.
        symmetric: no zero points.
        level: accuracy level, as for MatMulNBits.
        keep: names of nodes that stay float.
    """

    name: ClassVar[str] = "use-qmoe"
    bits: int
    size: int
    symmetric: bool
    level: int = 0
    keep: frozenset[str] = frozenset()

    def apply(self, model: ir.Model, record: PassRecord) -> None:
        """Each node replaced is a change."""
        edit = ir.Editor(model, model.graph)
        large = model.is_large
        for node in [node for node in model.nodes if node.op == "MoE" and node.domain == DOMAIN]:
            reason = "the weights are not all held in memory" if large else self._refused(node)
            if reason is not None:
                record.refusals.append(Refusal(self.name, node.name, reason))
                continue
            self._replace(edit, node)
            record.changes += 1
        if record.changes:
            record.notes.append(f"the experts of {record.changes} MoE have {self.bits} bits, rounded without data")
        elif record.refusals:
            record.notes.append(f"experts stay float: {record.refusals[0].reason}")

    def _refused(self, node: ir.Node) -> str | None:
        if node.name in self.keep:
            return f"{node.name!r} was to stay float"
        if self.bits not in KERNELS:
            return "there is a kernel for whole numbers of 2, 4 and 8 bits alone"
        for port in WEIGHTS:
            tensor = node.inputs[port] if port < len(node.inputs) else None
            if tensor is None or not tensor.name:
                continue
            if not isinstance(tensor, ir.Constant) or len(tensor.shape) != 3 or np.dtype(tensor.dtype).kind != "f":
                return f"{tensor.name!r} is no constant of three axes"
            if tensor.shape[2] % self.size:
                return f"rows of {tensor.name!r}, {tensor.shape[2]} long, are no whole blocks of {self.size}"
        return None

    def _replace(self, edit: ir.Editor, node: ir.Node) -> None:
        inputs: list[ir.Tensor | None] = [*node.inputs[:2], *[None] * 12]
        for place, (port, bias, name) in enumerate(zip(WEIGHTS, BIASES, NAMES, strict=True)):
            if port >= len(node.inputs) or not node.inputs[port].name:
                continue
            codes, scale, zero = self._rounded(ir.array(node.inputs[port]))
            first = 2 + 3 * place
            inputs[first] = edit.constant(f"{node.name}_{name}", codes)
            inputs[first + 1] = edit.constant(f"{node.name}_{name}_scales", scale)
            if zero is not None:
                inputs[FIRST_ZERO + place] = edit.constant(f"{node.name}_{name}_zero_points", zero)
            if bias < len(node.inputs) and node.inputs[bias].name:
                inputs[first + 2] = node.inputs[bias]
        while inputs[-1] is None:
            inputs.pop()
        attrs = {**node.attrs, "expert_weight_bits": self.bits, "block_size": self.size, "accuracy_level": self.level}
        outputs = list(node.outputs)
        edit.set_outputs(node, [])
        edit.add("QMoE", inputs, name=node.name, attrs=attrs, outputs=outputs, domain=DOMAIN, before=node)
        edit.erase(node)

    def _rounded(self, values: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any] | None]:
        experts, n, k = values.shape
        rows = np.ascontiguousarray(values.reshape(-1, k), np.float32)
        levels = Levels.unsigned(self.bits, symmetric=self.symmetric)
        found = round_blocks(rows, levels, self.size, "auto", form="half" if values.dtype == np.float16 else "f32")
        zero = np.asarray(found.grid.zero_point, np.uint8)
        codes = packed_rows(found.codes, zero, 0, self.bits, self.size).reshape(experts, n, -1)
        scale = found.grid.scale.astype(values.dtype).reshape(experts, n, -1)
        plain = bool((zero == 1 << (self.bits - 1)).all())
        return codes, scale, None if plain else together(zero, self.bits).reshape(experts, n, -1)
