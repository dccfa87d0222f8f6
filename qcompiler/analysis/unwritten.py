"""Outputs that hold what was in memory before: nobody can compare them.

A cache of GroupQueryAttention that slides has as many places as its window, and the kernel writes those of the tokens
that were seen, and no others: of a window of 4096 the rest is undefined behind a prompt of 20 tokens.
Source: ONNX Runtime, ContribOperators.md, GroupQueryAttention, sliding_window_cache.
"""

from __future__ import annotations

from qcompiler.analysis.payload import Payload

ATTRIBUTE = "sliding_window_cache"


def unwritten(payload: Payload) -> frozenset[str]:
    """The outputs of a model that have places that nothing writes."""
    if ATTRIBUTE.encode() not in payload.content:
        return frozenset()
    slides = (n for n in payload.proto().graph.node if any(a.name == ATTRIBUTE and a.i for a in n.attribute))
    return frozenset(name for node in slides for name in node.output[1:])
