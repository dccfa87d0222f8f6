"""Small graphs in few words: constants are known by name, nodes are called after their outputs."""

from __future__ import annotations

import re

import numpy as np

from qcompiler import ir
from qcompiler.quant import QuantPlan
from tests.graphs import parse

_RNG = np.random.default_rng(0)


def normal(*shape: int, spread: float = 1.0) -> np.ndarray:
    return (_RNG.normal(size=shape) * spread).astype(np.float32)


SAME = "<pads = [1, 1, 1, 1]>"
IMAGE = "float[1, 4, 16, 16] x"
FIRST = f"a = Conv{SAME}(x, w, b)"
CONSTANTS = {
    "w": normal(8, 4, 3, 3, spread=0.2), "b": normal(8), "v": normal(8, 8, 3, 3, spread=0.1), "c": normal(8),
    "u": normal(8, 16, 3, 3, spread=0.1), "h": normal(4, 4, 3, 3, spread=0.2), "e": normal(4),
    "m": normal(16, 10, spread=0.2), "n": normal(10), "m8": normal(8, 10, spread=0.3),
    "mt": normal(10, 2048, spread=0.02),
    "n1": normal(1, 10), "mm": normal(10, 16, spread=0.3), "nn": normal(16),
    "k": normal(8, 8, 1, 1, spread=0.3), "dw": normal(8, 1, 3, 3, spread=0.3), "t2": normal(8, 8, 2, 2, spread=0.2),
    "zero": np.float32(0), "six": np.float32(6), "one": np.float32(1), "five": np.float32(5), "minus": np.float32(-1),
    "half": np.float32(0.5), "channel": normal(8, 1, 1), "scales": np.array([1, 1, 2, 2], np.float32),
    "start": np.array([0]), "end": np.array([4]), "axis": np.array([1]), "step": np.array([2]),
    "wide": np.array([1, 2, 4, 16, 16]), "back": np.array([1, 8, 16, 16]), "index": np.arange(8),
    "inf": np.array([1, -np.inf], np.float32).reshape(1, 2, 1, 1).repeat(4, 1),
    "nan": np.full((8, 4, 3, 3), np.nan, np.float32), "cube": normal(2, 16, 10),
}  # fmt: skip


def words(text: str) -> set[str]:
    return set("".join(c if c.isalnum() or c == "_" else " " for c in text).split())


def graph(
    body: str,
    inputs: str = IMAGE,
    outputs: str = "float[N, M, P, Q] y",
    constants: dict[str, np.ndarray] | None = None,
    opset: int = 21,
) -> ir.Model:
    """A graph; the constants that it names are added."""
    known = {**CONSTANTS, **(constants or {})}
    named = words(body)
    made = {name.strip() for group in re.findall(r"([\w, ]+?)\s*=\s*[A-Z]", body) for name in group.split(",")}
    fed = made | {part.split()[-1] for part in inputs.split(", ") if part.split()[-1].isidentifier()}
    text = f"g ({inputs}) => ({outputs}) {{ {body} }}"
    model = parse(text, {k: v for k, v in known.items() if k in named and k not in fed}, opset)
    for node in model.all_nodes():
        node.name = f"{node.op}_{next(t.name for t in node.outputs if t.name)}"
    return model


def sites(plan: QuantPlan) -> list[str]:
    """Every site as text, with the site that it follows, and the gain."""
    return [
        str(site) + (f" = {d.same_as}" if d.same_as else "") + (f" * {d.gain:g}" if d.gain != 1 else "")
        for site, d in plan.sites.items()
    ]


def integers(plan: QuantPlan) -> dict[str, str]:
    """Rule by name of every node that computes in integers."""
    return {name: node.rule for name, node in plan.nodes.items() if node.precision != "float"}
