"""Which of the nodes that could run in integers should, whatever the accuracy: the cheapest split.

Two options for each group and no budget: see `solver`. A boundary costs 0.36 ns per element and side (fact sheet of
ONNX Runtime, section 6; within 7 % on mixed nets of this kind). The result is a proposal: it is shipped only if a real
run confirms it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from qcompiler.search.solver import FLOAT, Option, Value, solve

BOUNDARY_NS = 0.36
_MICRO = 1e6


def place(
    integer: Mapping[str, float],
    floating: Mapping[str, float],
    values: Iterable[Value],
    together: Iterable[tuple[str, str]] = (),
    boundary_ns: float = BOUNDARY_NS,
) -> frozenset[str]:
    """The groups that should stay float.

    Args:
        integer: seconds of each group that has an integer form, in that form.
        floating: seconds of the same groups in float.
        values: every value between them and the rest of the graph.
        together: pairs (a, b): if a is float, b must be float too.
        boundary_ns: cost of a boundary per element.

    Returns:
        Names out of `integer`, those on the float side of the cheapest split.
    """
    choices = {
        name: {"int8": Option(seconds * _MICRO), FLOAT: Option(floating.get(name, 0.0) * _MICRO)}
        for name, seconds in integer.items()
    }
    pairs = [pair for pair in together if pair[0] in choices]
    chosen = solve(choices, values, pairs, per_element=boundary_ns * 1e-9 * _MICRO) or {}
    return frozenset(name for name, option in chosen.items() if option == FLOAT)
