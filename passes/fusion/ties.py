"""Layers whose weight is a table, too: one matrix, looked up in and multiplied with, whichever way round it is kept.

Gather(T, .), MatMul(x, W) with W^T = T, Gemm(x, W) with transB and W = T
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompiler import ir
from qcompiler.targets import reduced_axis

PIECE = 1 << 22
"""Numbers compared at a time: most matrices of one shape differ in the first row."""


def tied(model: ir.Model) -> Mapping[str, str]:
    """By the name of each such layer, the name of the constant that is its table; weights on disk are not kept."""
    tables, layers = defaultdict[tuple[Any, ...], dict[str, ir.Constant]](dict), []
    for node in model.nodes:
        port = {"Gather": 0, "MatMul": 1, "Gemm": 1}.get(node.op)
        if port is None or node.domain or not isinstance(constant := node.inputs[port], ir.Constant):
            continue
        if len(constant.shape) != 2:
            continue
        if node.op != "Gather":
            layers.append((node, constant))
        elif int(node.attrs.get("axis", 0)) in (0, -2):
            tables[_form(constant, turned=False)].setdefault(constant.name, constant)
    found = dict[str, str]()
    for node, constant in layers:
        turned = reduced_axis(node) == 0
        for name, table in tables.get(_form(constant, turned=turned), {}).items():
            if _equal(constant, table, turned=turned):
                found[node.name] = name
                break
    return found


def _form(constant: ir.Constant, *, turned: bool) -> tuple[Any, ...]:
    return np.dtype(constant.dtype), *(constant.shape[::-1] if turned else constant.shape)


def _equal(constant: ir.Constant, table: ir.Constant, *, turned: bool) -> bool:
    if constant is table and not turned:
        return True
    one, other = ir.array(constant), ir.array(table)
    if turned:
        one = one.T
    rows = max(1, PIECE // max(one.shape[1], 1))
    return _same(one[:1], other[:1]) and all(
        _same(one[start : start + rows], other[start : start + rows]) for start in range(0, len(one), rows)
    )


def _same(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> bool:
    return bool(np.array_equal(one, other))
