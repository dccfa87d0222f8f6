"""Reductions; axes are an attribute or a constant input."""

from __future__ import annotations

from typing import Any

import numpy as np

from qcompiler.backends.coreml.lower.elementwise import no_wrap
from qcompiler.backends.coreml.lower.scope import Refused, Scope, Var, type_of
from qcompiler.backends.coreml.lower.table import lowers

REDUCE = {
    "ReduceSum": "reduce_sum", "ReduceMean": "reduce_mean", "ReduceMax": "reduce_max", "ReduceMin": "reduce_min",
    "ReduceProd": "reduce_prod", "ReduceL1": "reduce_l1_norm", "ReduceL2": "reduce_l2_norm",
    "ReduceLogSum": "reduce_log_sum", "ReduceLogSumExp": "reduce_log_sum_exp", "ReduceSumSquare": "reduce_sum_square",
}  # fmt: skip


def axes_of(s: Scope) -> list[int] | None:
    """The axes, None where nothing is reduced."""
    axes = s.ints("axes")
    if axes is None and s.has(1):
        axes = [int(v) for v in s.need(1, "axes").reshape(-1)]
    if not axes:
        return None if s.attr("noop_with_empty_axes", 0) else list(range(s.rank()))
    return sorted(s.axis(a) for a in axes)


def reduction(s: Scope) -> Var:
    """One MIL operation."""
    kind, x, axes = REDUCE[s.node.op], s.x(), axes_of(s)
    if kind not in ("reduce_max", "reduce_min"):
        no_wrap(s)
    if axes is None or s.rank() == 0:
        return without_axes(s, kind, x)
    if type_of(x) == "bool":
        found = s.op(kind, x=s.cast(x, "int32"), axes=axes, keep_dims=bool(s.attr("keepdims", 1)))
        return s.cast(found, "bool")
    if type_of(x) == "int32" and kind == "reduce_mean":
        raise Refused("a mean of integers")
    if kind == "reduce_log_sum":  # MIL's adds an epsilon
        summed = s.op("reduce_sum", x=x, axes=axes, keep_dims=bool(s.attr("keepdims", 1)))
        return s.op("log", x=summed, epsilon=s.scalar(0, x))
    return s.op(kind, x=x, axes=axes, keep_dims=bool(s.attr("keepdims", 1)))


def without_axes(s: Scope, kind: str, x: Var) -> Var:
    """Each value reduced alone."""
    if kind == "reduce_sum_square":
        return s.op("mul", x=x, y=x)
    if kind in ("reduce_l1_norm", "reduce_l2_norm"):
        return s.op("abs", x=x)
    if kind == "reduce_log_sum":
        return s.op("log", x=x, epsilon=s.scalar(0, x))
    return s.op("identity", x=x)


for _op, _kind in REDUCE.items():
    lowers(_op, to=_kind, limits="computed axes; 8-bit integers where sums wrap around")(reduction)


@lowers("ArgMax", "ArgMin", to="reduce_argmax, reduce_argmin")
def arg(s: Scope) -> Any:
    """The first of equal ones; with select_last_index that of the reversed axis, counted from its end."""
    x, axis = s.x(), s.axis(s.attr("axis", 0))
    kind = "reduce_argmax" if s.node.op == "ArgMax" else "reduce_argmin"
    last = bool(s.attr("select_last_index", 0))
    if last:
        size = s.shape()[axis]
        x = s.op("reverse", x=x, axes=[axis])
    found = s.op(kind, x=x, axis=axis, keep_dims=bool(s.attr("keepdims", 1)))
    return s.op("sub", x=np.int32(size - 1), y=found) if last else found
