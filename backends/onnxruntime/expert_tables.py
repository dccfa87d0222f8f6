"""Tables of matrices as tables of rows, so that the weights of experts can be stored in blocks.

    Gather(W (experts, n, k), chosen)  ->  Reshape(Gather(W (experts, n k), chosen), (..., n, k))

PyTorch exports mixtures of experts so where each token multiplies the weights of its own experts. Rows of k numbers are
whole blocks, so none of them spans two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from qcompiler import ir
from qcompiler.pipeline import GraphPass, PassRecord
from qcompiler.rewrite import Refusal

BETWEEN = ("Reshape", "Transpose", "Unsqueeze", "Squeeze", "Cast")


@dataclass(frozen=True)
class ExpertTables(GraphPass):
    """Rewrites Gather from constant tables of matrices.

    Attributes:
        size: of a block.
    """

    name: ClassVar[str] = "expert-tables"
    size: int

    def apply(self, model: ir.Model, record: PassRecord) -> None:
        """Each table is a change; nodes and results keep their names."""
        edit = ir.Editor(model, model.graph)
        rows: dict[str, ir.Constant] = {}
        for node in [node for node in model.nodes if node.op == "Gather" and not node.domain]:
            table, chosen = node.inputs
            if not _matrices(table) or chosen.shape is None or int(node.attrs.get("axis", 0)) not in (0, -3):
                continue
            experts, n, k = (int(size) for size in table.shape)
            if k % self.size:
                said = f"rows of {table.name!r}, {k} long, are no whole blocks of {self.size}"
                record.refusals.append(Refusal(self.name, node.name, said))
                continue
            if table.name not in rows:
                rows[table.name] = edit.constant(f"{table.name}_rows", _flat(table, (experts, n * k)))
            outputs, ranks = list(node.outputs), len(chosen.shape)
            found = edit.variable(f"{outputs[0].name}_rows", table.dtype, [*chosen.shape, n * k])
            form = edit.constant(f"{node.name}_form", np.array([0] * ranks + [n, k], np.int64))
            edit.set_outputs(node, [found])
            edit.set_input(node, 0, rows[table.name])
            node.attrs["axis"] = 0
            edit.add("Reshape", [found, form], name=f"{node.name}_matrices", outputs=outputs)
            record.changes += 1


def _matrices(table: ir.Tensor) -> bool:
    return isinstance(table, ir.Constant) and len(table.shape) == 3 and np.dtype(table.dtype).kind == "f"


def _flat(table: ir.Constant, shape: tuple[int, int]) -> np.ndarray | ir.Deferred:
    if ir.on_disk(table):
        return ir.Deferred(shape, np.dtype(table.dtype), lambda: ir.array(table).reshape(shape))
    return ir.array(table).reshape(shape)


def chosen_weights(node: ir.Node) -> str | None:
    """A Gather whose rows are the weights of matrix products."""
    readers: Sequence[ir.Node] = node.outputs[0].outputs
    while len(readers) == 1 and readers[0].op in BETWEEN:
        readers = readers[0].outputs[0].outputs
    if readers and all(reader.op == "MatMul" and not reader.domain for reader in readers):
        return None
    return f"what Gather {node.name!r} reads is no weight of a product"
