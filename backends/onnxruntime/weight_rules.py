"""The table for weights in blocks: activations stay float, weights have a format of 2, 3, 4 or 8 bits.

    layer    MatMul, plain Gemm     MatMulNBits
    table    Gather along axis 0    GatherBlockQuantized
    experts  Gather of weights      the same, with as many bits as layers have, or more (`expert_tables`)

A layer that multiplies with a table, as the output layer of a model with tied weights does, is stored as the table is:
one copy of 8 bits is smaller than two of 8 and 4, and loses less.

With `mixed_bits` the layers that lose most have 8 bits: those that read what attention gives, and those that read the
product of a gated layer (the k-quant idea of llama.cpp: more bits by the role of a tensor).

One token at a time, a layer costs what it takes to read its weights, so speed comes from their size; what is computed
is float, or int8 in blocks (`nbits`). Any width will do: a short last block is filled up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from qcompiler import ir
from qcompiler.backends.onnxruntime.expert_tables import chosen_weights
from qcompiler.backends.onnxruntime.spec import matrix_weight
from qcompiler.backends.onnxruntime.weight_formats import FORMATS, fitting
from qcompiler.errors import UsageError
from qcompiler.quant import QSpec
from qcompiler.targets import Condition, Float, OpRule, Weight, reduced_axis
from qcompiler.targets.conditions import plain_gemm

TABLE_BITS = (0, 2, 4, 8)
BASE = 4
"""Bits that the search starts from where it may give layers others."""
SMALL_TABLE = 1 << 12
"""Numbers in a table up to which it stays float."""


@dataclass(frozen=True)
class Blocks:
    """How weights are stored.

    Attributes:
        bits: of layers.
        size: values in a block.
        symmetric: no zero points are stored.
        table_bits: of tables; 0 keeps them float.
        mixed_bits: 8 bits for layers that need them by their role.
        format: of layers; tables hold whole numbers.
        one_copy: a layer that is a table, too, has the bits of tables, where these are no fewer than its own.
    """

    bits: int = 4
    size: int = 32
    symmetric: bool = False
    table_bits: int = 8
    mixed_bits: bool = False
    format: str = "int"
    one_copy: bool = True

    def __post_init__(self) -> None:
        if self.table_bits not in TABLE_BITS:
            raise UsageError(
                f"tables have no kernel for {self.table_bits} bits", where="--table-bits", hint="0, 2, 4, 8"
            )

    def spec(self, bits: int, form: str = "int") -> QSpec:
        """The spec of a matrix; the axis is turned to what is summed over."""
        return FORMATS[form].spec(bits, self.size, symmetric=self.symmetric)

    @property
    def rules(self) -> tuple[OpRule, ...]:
        """The table."""
        layer = OpRule(
            "block-matrix", ("MatMul", "Gemm"), {1: Weight((self.spec(self.bits, self.format),))}, Float(),
            "section 2.2, MatMulNBits: one row 5 times float, many rows 1.1 to 1.3 times",
            conditions=(plain_gemm, matrix_weight), computes=f"w{self.bits}",
        )  # fmt: skip
        layers: tuple[OpRule, ...] = (layer,)
        if self.mixed_bits:
            needy = OpRule(
                "needy-matrix", layer.ops, {1: Weight((self.spec(8),))}, Float(), f"by its role; {layer.source}",
                conditions=(*layer.conditions, needs_bits), computes="w8",
            )  # fmt: skip
            layers = (needy, layer)
        least = next(bits for bits in TABLE_BITS if bits >= self.bits)
        experts = self._table("block-experts", least, chosen_weights)
        if not self.table_bits:
            return (*layers, experts)
        tied = OpRule(
            "tied-matrix", layer.ops, {1: Weight((self.spec(self.table_bits),))}, Float(), f"one copy; {layer.source}",
            conditions=(*layer.conditions, self._whole_blocks), computes=f"w{self.table_bits}",
        )  # fmt: skip
        table = self._table("block-table", self.table_bits)
        return (*layers, experts, replace(table, twin=tied if self.one_copy and self.table_bits >= self.bits else None))

    def _whole_blocks(self, node: ir.Node) -> str | None:
        width = int(node.inputs[1].shape[reduced_axis(node)])
        return f"rows of {width} numbers are no whole blocks" if width % fitting(self.size, width) else None

    def _table(self, name: str, bits: int, *roles: Condition) -> OpRule:
        def whole_bytes(node: ir.Node) -> str | None:
            packed = int(node.inputs[0].shape[1]) * bits % 8 == 0
            return None if packed else f"rows of table {node.inputs[0].name!r} take no whole number of bytes"

        return OpRule(
            name, ("Gather",), {0: Weight((self.spec(bits),))}, Float(), "ContribOperators.md, GatherBlockQuantized",
            conditions=(large_table, whole_bytes, *roles), computes=f"w{bits}",
        )  # fmt: skip


def check_average(average: float, bits: int, form: str, known: Sequence[int]) -> None:
    """Refuses an average that layers of the known bits do not have.

    Raises:
        UsageError: it is less than the fewest bits, or more than the most, or bits or format are given, too.
    """
    if bits or form != "int":
        option = "--bits" if bits else "--format"
        raise UsageError(f"{option} says what every layer has", where="--average-bits", hint="leave one of them out")
    if not min(known) <= average <= max(known):
        said = f"layers have {', '.join(map(str, sorted(known)))} bits, so they have no {average:g} on average"
        raise UsageError(said, where="--average-bits")


def needs_bits(node: ir.Node) -> str | None:
    """A layer behind attention, or behind the product of a gated layer."""
    source = _maker(node.inputs[0])
    if source is not None and source.op == "Mul" and not any(isinstance(t, ir.Constant) for t in source.inputs):
        factors = [maker.op for t in source.inputs if (maker := _maker(t)) is not None]
        if "MatMul" in factors:
            return None
    while source is not None and source.op in ("Reshape", "Transpose"):
        source = _maker(source.inputs[0])
    if source is not None and source.op == "MatMul" and not isinstance(source.inputs[1], ir.Constant):
        return None
    return f"{node.op} {node.name!r} has no role that needs more bits"


def _maker(tensor: ir.Tensor) -> ir.Node | None:
    return tensor.inputs[0] if tensor.inputs else None


def large_table(node: ir.Node) -> str | None:
    """Gather along the first axis of a float matrix that is worth it."""
    table = node.inputs[0]
    if not isinstance(table, ir.Constant) or np.dtype(table.dtype).kind != "f" or len(table.shape) != 2:
        return f"Gather {node.name!r} does not read a float matrix"
    if int(node.attrs.get("axis", 0)) not in (0, -2):
        return f"Gather {node.name!r} does not gather rows"
    numbers = int(np.prod(table.shape))
    return f"table {table.name!r} of {numbers} numbers is small" if numbers <= SMALL_TABLE else None
