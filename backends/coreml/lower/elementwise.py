"""Elementwise operators, with ONNX's broadcasting and its integer semantics.

Div of integers      truncates: sign(x) * sign(y) * floor(|x| / |y|); MIL's floor_div floors
Mod, fmod = 1        has the sign of x: sign(x) * mod(|x|, |y|); fmod = 0 has that of y, as in MIL
Log, Rsqrt, inverse  have a hidden epsilon in MIL: it is set to 0, or the operator avoided
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np

from qcompiler.backends.coreml.lower.scope import Refused, Scope, Var, mil_type, type_of
from qcompiler.backends.coreml.lower.table import lowers

NARROW = ("uint8", "int8", "uint16", "int16", "uint32", "uint64")

UNARY = {
    "Abs": "abs", "Ceil": "ceil", "Floor": "floor", "Sign": "sign", "Exp": "exp", "Sqrt": "sqrt", "Erf": "erf",
    "Sin": "sin", "Cos": "cos", "Tan": "tan", "Asin": "asin", "Acos": "acos", "Atan": "atan", "Sinh": "sinh",
    "Cosh": "cosh", "Tanh": "tanh", "Atanh": "atanh", "Round": "round",
}  # fmt: skip
COMPARE = {
    "Less": "less", "Greater": "greater", "LessOrEqual": "less_equal", "GreaterOrEqual": "greater_equal",
}  # fmt: skip
LOGIC = {"And": "logical_and", "Or": "logical_or", "Xor": "logical_xor"}
ARITHMETIC = {"Add": "add", "Sub": "sub", "Mul": "mul"}


def _unary(kind: str) -> Callable[[Scope], Any]:
    def lower(s: Scope) -> Var:
        return s.op(kind, x=s.x())

    return lower


for _onnx, _mil in UNARY.items():
    lowers(_onnx, to=_mil)(_unary(_mil))


def no_wrap(s: Scope) -> None:
    """Refuses types whose arithmetic wraps around where int32 does not."""
    if str(s.onnx_type()) in NARROW:
        raise Refused(f"{s.onnx_type()} arithmetic wraps around; Core ML computes in int32")


def _arithmetic(kind: str) -> Callable[[Scope], Any]:
    def lower(s: Scope) -> Var:
        no_wrap(s)
        a, b = s.alike(s.x(0), s.x(1))
        return s.op(kind, x=a, y=b)

    return lower


for _onnx, _mil in ARITHMETIC.items():
    lowers(_onnx, to=_mil, limits="8 and 16 bit integers, unsigned integers")(_arithmetic(_mil))


def _compare(kind: str) -> Callable[[Scope], Any]:
    def lower(s: Scope) -> Var:
        a, b = s.alike(s.x(0), s.x(1))
        return s.op(kind, x=a, y=b)

    return lower


for _onnx, _mil in {**COMPARE, **LOGIC}.items():
    lowers(_onnx, to=_mil)(_compare(_mil))


@lowers("Equal", to="equal")
def equal(s: Scope) -> Var:
    """MIL compares numbers alone."""
    a, b = s.alike(s.x(0), s.x(1))
    if type_of(a) == "bool":
        a, b = s.cast(a, "int32"), s.cast(b, "int32")
    return s.op("equal", x=a, y=b)


@lowers("Not", to="logical_not")
def logical_not(s: Scope) -> Var:
    """!x"""
    return s.op("logical_not", x=s.x())


@lowers("Div", to="real_div, floor_div", limits="8 and 16 bit integers, unsigned integers")
def div(s: Scope) -> Var:
    """Integers truncate toward zero."""
    no_wrap(s)
    a, b = s.alike(s.x(0), s.x(1))
    if type_of(a) != "int32":
        return s.op("real_div", x=a, y=b)
    whole = s.op("floor_div", x=s.op("abs", x=a), y=s.op("abs", x=b))
    return s.op("mul", x=whole, y=s.op("mul", x=s.op("sign", x=a), y=s.op("sign", x=b)))


@lowers("Mod", to="mod", limits="uint64")
def mod(s: Scope) -> Var:
    """The sign of the divisor, or with fmod that of the dividend."""
    a, b = s.alike(s.x(0), s.x(1))
    if not s.attr("fmod", 0):
        return s.op("mod", x=a, y=b)
    return s.op("mul", x=s.op("sign", x=a), y=s.op("mod", x=s.op("abs", x=a), y=s.op("abs", x=b)))


@lowers("Pow", to="pow", limits="unsigned integers")
def power(s: Scope) -> Var:
    """In floats; an integer base gives integers."""
    no_wrap(s)
    base, exponent, kind = s.x(0), s.x(1), type_of(s.x(0))
    inner = "fp32" if kind == "int32" else kind
    if s.known(1) is not None and s.known(1).size == 1 and float(s.known(1).reshape(())) == 2.0 and kind != "int32":  # type: ignore[union-attr]
        return s.op("mul", x=base, y=base)
    found = s.op("pow", x=s.cast(base, inner), y=s.cast(exponent, inner))
    return s.cast(s.op("round", x=found) if kind == "int32" else found, kind)


@lowers("Neg", to="mul")
def negative(s: Scope) -> Var:
    """x * -1"""
    no_wrap_signed(s)
    return s.op("mul", x=s.x(), y=s.scalar(-1, s.x()))


def no_wrap_signed(s: Scope) -> None:
    """Refuses unsigned types."""
    if s.onnx_type().kind == "u":
        raise Refused(f"{s.onnx_type()} has no negative values")


@lowers("Log", to="log")
def log(s: Scope) -> Var:
    """Natural logarithm, exact at 0."""
    return s.op("log", x=s.x(), epsilon=s.scalar(0, s.x()))


@lowers("Reciprocal", to="real_div")
def reciprocal(s: Scope) -> Var:
    """1 / x; MIL's `inverse` adds 1e-4."""
    return s.op("real_div", x=s.scalar(1, s.x()), y=s.x())


@lowers("Asinh", to="log, sqrt")
def asinh(s: Scope) -> Var:
    """sign(x) * log(|x| + sqrt(x^2 + 1))"""
    x = s.x()
    size = s.op("abs", x=x)
    root = s.op("sqrt", x=s.op("add", x=s.op("mul", x=x, y=x), y=s.scalar(1, x)))
    found = s.op("log", x=s.op("add", x=size, y=root), epsilon=s.scalar(0, x))
    return s.op("mul", x=s.op("sign", x=x), y=found)


@lowers("Acosh", to="log, sqrt")
def acosh(s: Scope) -> Var:
    """log(x + sqrt(x^2 - 1))"""
    x = s.x()
    root = s.op("sqrt", x=s.op("sub", x=s.op("mul", x=x, y=x), y=s.scalar(1, x)))
    return s.op("log", x=s.op("add", x=x, y=root), epsilon=s.scalar(0, x))


@lowers("Min", "Max", to="minimum, maximum")
def extreme(s: Scope) -> Var:
    """Of all inputs."""
    kind = "minimum" if s.node.op == "Min" else "maximum"
    return reduce(lambda a, b: s.op(kind, x=a, y=b), s.alike(*s.xs()))


@lowers("Sum", "Mean", to="add, mul", limits="unsigned integers")
def total(s: Scope) -> Var:
    """Of all inputs; the mean by a product."""
    no_wrap(s)
    values = s.alike(*s.xs())
    found = reduce(lambda a, b: s.op("add", x=a, y=b), values)
    return s.op("mul", x=found, y=s.scalar(1 / len(values), found)) if s.node.op == "Mean" else found


@lowers("Where", to="select")
def where(s: Scope) -> Var:
    """select does not broadcast by itself everywhere: operands are spread first, over open shapes by adding zeros."""
    condition, (a, b) = s.x(0), s.alike(s.x(1), s.x(2))
    shape = np.broadcast_shapes(*(tuple(static_or_one(v)) for v in (condition, a, b)))
    if all(all(isinstance(d, int | np.integer) for d in v.shape) for v in (condition, a, b)):
        condition, a, b = (spread(s, v, shape) for v in (condition, a, b))
    elif type_of(a) != "bool":
        nothing = s.op("mul", x=s.cast(condition, type_of(a)), y=s.scalar(0, a))
        a, b = (v if tuple(v.shape) == tuple(condition.shape) else s.op("add", x=v, y=nothing) for v in (a, b))
    return s.op("select", cond=condition, a=a, b=b)


def static_or_one(x: Var) -> list[int]:
    """The shape with 1 for open dimensions."""
    return [int(d) if isinstance(d, int | np.integer) else 1 for d in x.shape]


def spread(s: Scope, x: Var, shape: tuple[int, ...]) -> Var:
    """`x` broadcast to a shape."""
    have = [int(d) for d in x.shape]
    if tuple(have) == tuple(shape):
        return x
    grown = [1] * (len(shape) - len(have)) + have
    if grown != have:
        x = s.reshape(x, grown)
    reps = [n // h if h else 1 for n, h in zip(shape, grown, strict=True)]
    return tiled(s, x, reps)


def tiled(s: Scope, x: Var, reps: list[int]) -> Var:
    """`x` repeated; bool goes by int32, which `tile` takes."""
    if all(n == 1 for n in reps):
        return x
    kind = type_of(x)
    found = s.op("tile", x=s.cast(x, "int32") if kind == "bool" else x, reps=np.array(reps, np.int32))
    return s.cast(found, kind)


@lowers("Clip", to="clip, minimum, maximum")
def clip(s: Scope) -> Var:
    """Constant float bounds in one operator."""
    x = s.x()
    low, high = s.known(1), s.known(2)
    computed = (s.has(1) and low is None) or (s.has(2) and high is None)
    if type_of(x) == "int32" or computed:
        for port, kind in ((1, "maximum"), (2, "minimum")):
            if s.has(port):
                x = s.op(kind, x=x, y=s.cast(s.x(port), type_of(x)))
        return x
    largest = 6.0e4 if type_of(x) == "fp16" or s.program.half else 3.4e38
    bounds = [float(v.reshape(())) if v is not None else default for v, default in ((low, -np.inf), (high, np.inf))]
    if bounds == [0.0, 6.0]:
        return s.op("relu6", x=x)
    if bounds[0] > -largest and bounds[1] < largest and bounds[0] <= bounds[1]:
        return s.op("clip", x=x, alpha=s.scalar(bounds[0], x), beta=s.scalar(bounds[1], x))
    for bound, kind in zip(bounds, ("maximum", "minimum"), strict=True):
        if abs(bound) < largest:
            x = s.op(kind, x=x, y=s.scalar(bound, x))
    return x


@lowers("IsNaN", to="not_equal")
def is_nan(s: Scope) -> Var:
    """x != x"""
    return s.op("not_equal", x=s.x(), y=s.x())


@lowers("IsInf", to="greater, less", limits="after conversion to float16 values beyond its range are infinite")
def is_inf(s: Scope) -> Var:
    """Beyond the largest finite number."""
    x = s.x()
    top = s.scalar(np.finfo(np.float16).max if type_of(x) == "fp16" else np.finfo(np.float32).max, x)
    up, down = s.attr("detect_positive", 1), s.attr("detect_negative", 1)
    above, below = s.op("greater", x=x, y=top), s.op("less", x=x, y=-top)
    if up and down:
        return s.op("logical_or", x=above, y=below)
    return above if up else below


@lowers("Cast", "CastLike", to="cast", limits="to 8-bit, 16-bit, float8, 4-bit types and strings")
def cast(s: Scope) -> Var:
    """float -> int truncates; what the narrow integer types do beyond their range is left to none."""
    output = s.node.outputs[0].dtype
    if s.node.op == "Cast":
        from onnx import helper

        output = helper.tensor_dtype_to_np_dtype(int(s.attr("to")))
    elif output is None or s.node.inputs[1].dtype is not None:
        output = s.node.inputs[1].dtype
    wanted = np.dtype(output)
    if str(wanted) in NARROW or str(s.onnx_type()) in ("uint32", "uint64"):
        raise Refused(f"a cast from {s.onnx_type()} to {wanted} may wrap around")
    x, kind = s.x(), mil_type(wanted)
    if kind == "bool" and type_of(x) in ("fp32", "fp16"):
        return s.op("not_equal", x=x, y=s.scalar(0, x))
    return s.cast(x, kind)
