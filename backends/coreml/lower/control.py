"""If, with both branches as blocks; a condition that is known takes its branch, as `InlineIf` does before.

    y = If(c) { then } else { otherwise }      ->      y = cond(c, then, otherwise)

Both branches must give the same types and shapes, since a value of MIL has one. What a branch makes, constants too, is
seen in it alone. Control flow keeps a model off the Neural Engine (fact sheet, section 4). Loop and Scan come here only
where `Unroll` had to leave them, for the reason that is given.
Source: ONNX operator specification, If; MIL `cond`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from qcompiler import ir
from qcompiler.backends.coreml.lower.scope import Refused, Scope, Var, type_of
from qcompiler.backends.coreml.lower.table import lowers
from qcompiler.passes.prepare.unroll import why_not

Ends = Sequence[tuple[str, list[Any], str]]


@lowers("If", to="cond, squeeze", limits="branches whose results differ in type or shape")
def if_(s: Scope) -> Any:
    """One of two branches."""
    known = s.known(0)
    if known is not None:
        return inside(s, s.attr("then_branch" if known.reshape(-1)[0] else "else_branch"))
    condition = s.x()
    if s.rank():
        condition = s.cast(s.op("squeeze", x=s.cast(condition, "int32")), "bool")
    seen: list[Ends] = []
    branches = {key: s.attr(f"{name}_branch") for key, name in (("_true_fn", "then"), ("_false_fn", "else"))}
    try:
        found = s.op("cond", pred=condition, **{key: block(s, graph, seen) for key, graph in branches.items()})
    except ValueError as error:
        raise Refused(differing(seen) or str(error)) from error
    if different := differing(seen):
        raise Refused(different)
    return found


@lowers(
    "Loop", "Scan", to="the body, once for each turn",
    limits="a computed trip count, condition or length; a body with If, Loop or Scan; more than 4096 nodes in all",
)  # fmt: skip
def loop(s: Scope) -> Any:
    """What could not be unrolled."""
    raise Refused(why_not(s.node) or "its turns are not written out before opset 13")


def block(s: Scope, graph: ir.Graph, seen: list[Ends]) -> Callable[[], tuple[Var, ...]]:
    """What makes the operations of a branch; what it gives is entered into `seen`."""

    def made() -> tuple[Var, ...]:
        outside = dict(s.program.values)
        found = [s.op("identity", x=value) for value in inside(s, graph)]
        s.program.values.clear()
        s.program.values.update(outside)
        names = [tensor.name for tensor in graph.outputs]
        seen.append([(name, list(v.shape), type_of(v)) for name, v in zip(names, found, strict=True)])
        return tuple(found)

    return made


def inside(s: Scope, graph: ir.Graph) -> list[Var]:
    """The results of a branch, made where the program stands."""
    from qcompiler.backends.coreml.lower.graph import given, lowered

    refused = [found for node in graph.nodes for found in lowered(node, s.program)]
    if refused:
        raise Refused("in a branch: " + "; ".join(map(str, refused)))
    return [given(tensor, s.program) for tensor in graph.outputs]


def differing(seen: Sequence[Ends]) -> str:
    """What tells the results of two branches apart; empty where nothing does."""
    for (one, shape, kind), (other, shape2, kind2) in zip(*seen, strict=True) if len(seen) == 2 else ():
        if kind != kind2 or not alike(shape, shape2):
            return (
                f"its branches give {one!r} as {kind} {list(map(str, shape))} and {other!r} as {kind2} "
                f"{list(map(str, shape2))}; in MIL a value has one type and shape"
            )
    return ""


def alike(a: Sequence[Any], b: Sequence[Any]) -> bool:
    """Whether two shapes are one; open dimensions are where they are the same symbol."""
    return len(a) == len(b) and all(m is n or m == n for m, n in zip(a, b, strict=True))
