"""Operators that a target has no form for, written out in others, in float and before anything is observed.

    Reciprocal(x)          1 / x
    Softsign(x)            x / (1 + |x|)
    Celu(x; a)             a Elu(x / a)
    Sinh(x), Cosh(x)       (e^x -+ e^-x) / 2
    Asinh(x)               sign(x) log(|x| + sqrt(x^2 + 1))
    Acosh(x)               log(x + sqrt(x^2 - 1))
    Atanh(x)               log((1 + x) / (1 - x)) / 2
    Asin(x)                atan(x / sqrt(max(1 - x^2, tiny)));  Acos(x) = pi / 2 - Asin(x)
    Erf(x)                 sign(x) (1 - (a1 t + a2 t^2 + a3 t^3) e^(-x^2)), t = 1 / (1 + p |x|), to 2.5e-5
    ReduceL1, ReduceSumSquare, ReduceLogSum    ReduceSum of |x|, of x^2; log of ReduceSum
    Trilu(x, k)            Where(mask, x, 0), for fixed shapes

The forms of operators that most targets have are in `written_out`. The result keeps its name. Sources: ONNX operator
standard; Erf: Abramowitz and Stegun, Handbook of Mathematical Functions, 7.1.25.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from qcompiler import ir
from qcompiler.passes.fusion.written_out import FIXED, WRITTEN_OUT
from qcompiler.pipeline import GraphPass, PassRecord
from qcompiler.rewrite import Refusal

ERF = (0.47047, 0.3480242, -0.0958798, 0.7478556)
TINY = 1e-7


@dataclass(frozen=True)
class ExpandOperators(GraphPass):
    """Rewrites the nodes of the main graph.

    Attributes:
        lacks: operator types; those that are not in `FORMS` stay.
        only: names of the nodes to rewrite; None for all of these types.
    """

    name: ClassVar[str] = "expand-operators"
    lacks: frozenset[str]
    only: frozenset[str] | None = None

    def apply(self, model: ir.Model, record: PassRecord) -> None:
        """Each node is a change, or a refusal with the reason."""
        wanted = [n for n in model.nodes if n.op in self.lacks and (self.only is None or n.name in self.only)]
        for write in writings(model, wanted, record):
            FORMS[write.op](write, write.x)


def writings(model: ir.Model, wanted: Iterable[ir.Node], record: PassRecord) -> Iterator[Writing]:
    """Where each of some nodes of the main graph is to be written out: a change, or a refusal with the reason."""
    edit = ir.Editor(model, model.graph)
    for node in wanted:
        if node.domain:
            continue
        reason = refusal(node)
        if reason is not None:
            record.refusals.append(Refusal(record.name, node.name, reason))
            continue
        record.changes += 1
        yield Writing(edit, node)


def refusal(node: ir.Node) -> str | None:
    """Why a node must stay."""
    x = node.inputs[0]
    if node.op not in FORMS:
        return f"{node.op} {node.name!r} is not written out: no form is known"
    if x.dtype is None or np.dtype(x.dtype).kind != "f":
        return f"{x.name!r} of {node.op} {node.name!r} is not floating point"
    if node.op in FIXED:
        computed = [node.inputs[port] for port in FIXED[node.op] if not isinstance(node.inputs[port], ir.Constant)]
        if x.shape is None or not all(isinstance(size, int) for size in x.shape) or computed:
            what = repr(computed[0].name) if computed else f"the shape of {x.name!r}"
            return f"{node.op} {node.name!r} is not written out: {what} is not fixed"
    if node.op == "Trilu":
        fixed = x.shape is not None and all(isinstance(size, int) for size in x.shape[-2:])
        offset = node.inputs[1] if len(node.inputs) > 1 else None
        if not fixed or not (offset is None or not offset.name or isinstance(offset, ir.Constant)):
            return f"Trilu {node.name!r} depends on a size or offset that is not fixed"
    return None


class Writing:
    """Writes the nodes that replace one; the last one, by `last`, gives the old result.

    Attributes:
        op, attrs: of the old node.
        rest: its inputs but the first.
    """

    def __init__(self, edit: ir.Editor, node: ir.Node) -> None:
        self.edit, self.name, self.op, self.attrs = edit, node.name, node.op, dict(node.attrs)
        self.rest, self.x, self.y = list(node.inputs[1:]), node.inputs[0], node.outputs[0]
        edit.set_outputs(node, [])
        edit.erase(node)

    def number(self, value: float) -> ir.Tensor:
        """A constant of rank 0."""
        return self.edit.constant(f"{self.name}_{value:g}", np.asarray(value, self.x.dtype))

    def array(self, name: str, values: npt.NDArray[Any]) -> ir.Tensor:
        """A constant; floating-point ones in the type of x."""
        dtype = self.x.dtype if values.dtype.kind == "f" else values.dtype
        return self.edit.constant(f"{self.name}_{name}", values.astype(dtype))

    def __call__(
        self,
        op: str,
        *inputs: ir.Tensor | float,
        like: ir.Tensor | None = None,
        shape: Sequence[int | str | None] | None = None,
        dtype: np.dtype[Any] | None = None,
        **attrs: Any,
    ) -> ir.Tensor:
        """One node; its result has the shape and type of the first operand that is computed, or as given."""
        tensors = [self.number(value) if isinstance(value, int | float) else value for value in inputs]
        shaped = like or next((tensor for tensor in tensors if not isinstance(tensor, ir.Constant)), tensors[0])
        shape = shaped.shape if shape is None else list(shape)
        out = self.edit.variable(f"{self.name}_{op.lower()}", dtype or shaped.dtype, shape)
        return self.edit.add(op, tensors, name=f"{self.name}_{op}", attrs=attrs, outputs=[out]).outputs[0]

    def last(self, op: str, *inputs: ir.Tensor | float, **attrs: Any) -> None:
        """The node that gives the old result."""
        tensors = [self.number(value) if isinstance(value, int | float) else value for value in inputs]
        self.edit.add(op, tensors, name=self.name, attrs=attrs, outputs=[self.y])


def reciprocal(to: Writing, x: ir.Tensor) -> None:
    """1 / x."""
    to.last("Div", 1.0, x)


def softsign(to: Writing, x: ir.Tensor) -> None:
    """x / (1 + |x|)."""
    to.last("Div", x, to("Add", to("Abs", x), 1.0))


def celu(to: Writing, x: ir.Tensor) -> None:
    """a Elu(x / a)."""
    alpha = float(to.attrs.get("alpha", 1.0))
    if alpha == 1.0:
        to.last("Elu", x, alpha=1.0)
    else:
        to.last("Mul", to("Elu", to("Mul", x, 1 / alpha), alpha=1.0), alpha)


def hyperbolic(join: str) -> Callable[[Writing, ir.Tensor], None]:
    """(e^x -+ e^-x) / 2."""

    def form(to: Writing, x: ir.Tensor) -> None:
        to.last("Mul", to(join, to("Exp", x), to("Exp", to("Neg", x))), 0.5)

    return form


def asinh(to: Writing, x: ir.Tensor) -> None:
    """sign(x) log(|x| + sqrt(x^2 + 1))."""
    root = to("Sqrt", to("Add", to("Mul", x, x), 1.0))
    to.last("Mul", to("Sign", x), to("Log", to("Add", to("Abs", x), root)))


def acosh(to: Writing, x: ir.Tensor) -> None:
    """log(x + sqrt(x^2 - 1))."""
    to.last("Log", to("Add", x, to("Sqrt", to("Sub", to("Mul", x, x), 1.0))))


def atanh(to: Writing, x: ir.Tensor) -> None:
    """log((1 + x) / (1 - x)) / 2."""
    to.last("Mul", to("Log", to("Div", to("Add", x, 1.0), to("Add", to("Neg", x), 1.0))), 0.5)


def arcsine(to: Writing, x: ir.Tensor) -> ir.Tensor:
    """The argument of atan."""
    rest = to("Max", to("Add", to("Neg", to("Mul", x, x)), 1.0), TINY)
    return to("Div", x, to("Sqrt", rest))


def asin(to: Writing, x: ir.Tensor) -> None:
    """atan(x / sqrt(1 - x^2))."""
    to.last("Atan", arcsine(to, x))


def acos(to: Writing, x: ir.Tensor) -> None:
    """pi / 2 - asin(x)."""
    to.last("Add", to("Neg", to("Atan", arcsine(to, x))), math.pi / 2)


def erf(to: Writing, x: ir.Tensor) -> None:
    """See the module."""
    p, first, second, third = ERF
    t = to("Div", 1.0, to("Add", to("Mul", to("Abs", x), p), 1.0))
    polynomial = to("Mul", to("Add", to("Mul", to("Add", to("Mul", t, third), second), t), first), t)
    falling = to("Exp", to("Neg", to("Mul", x, x)))
    to.last("Mul", to("Sign", x), to("Add", to("Neg", to("Mul", polynomial, falling)), 1.0))


def total(inner: str, outer: str = "") -> Callable[[Writing, ir.Tensor], None]:
    """ReduceSum of something, or something of it."""

    def form(to: Writing, x: ir.Tensor) -> None:
        value = to("Mul", x, x) if inner == "Mul" else to(inner, x) if inner else x
        if outer:
            to.last(outer, to("ReduceSum", value, *to.rest, like=to.y, **to.attrs))
        else:
            to.last("ReduceSum", value, *to.rest, **to.attrs)

    return form


def trilu(to: Writing, x: ir.Tensor) -> None:
    """The other triangle becomes zero, whatever stood there."""
    offset = int(ir.array(to.rest[0])) if to.rest and isinstance(to.rest[0], ir.Constant) else 0
    rows, columns = x.shape[-2:]
    ones = np.ones((rows, columns), np.bool_)
    mask = np.triu(ones, offset) if int(to.attrs.get("upper", 1)) else np.tril(ones, offset)
    to.last("Where", to.edit.constant(f"{to.name}_mask", mask), x, 0.0)


FORMS: Mapping[str, Callable[[Writing, ir.Tensor], None]] = MappingProxyType(
    {
        "Reciprocal": reciprocal, "Softsign": softsign, "Celu": celu, "Sinh": hyperbolic("Sub"),
        "Cosh": hyperbolic("Add"), "Asinh": asinh,
        "Acosh": acosh, "Atanh": atanh, "Asin": asin, "Acos": acos, "Erf": erf, "ReduceL1": total("Abs"),
        "ReduceSumSquare": total("Mul"), "ReduceLogSum": total("", "Log"), "Trilu": trilu, **WRITTEN_OUT,
    }
)  # fmt: skip
"""How each operator is written out."""
