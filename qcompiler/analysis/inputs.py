"""What a model takes: of samples, and where there are none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from qcompiler import ir
from qcompiler.data import InputInfo
from qcompiler.data.implied import completed, meaning
from qcompiler.data.sample import Array


def inputs_of(model: ir.Model) -> list[InputInfo]:
    """What a sample for a model must hold."""
    return [
        InputInfo(
            tensor.name,
            np.dtype(np.float32 if tensor.dtype is None else tensor.dtype),
            None if tensor.shape is None else tuple(tensor.shape),
            max((_window(node) for node in tensor.outputs), default=0),
        )
        for tensor in model.inputs
    ]


def agreeing(made_up: Mapping[str, Array], inputs: Sequence[InputInfo]) -> dict[str, Array]:
    """A feed that somebody made up, with what follows from the others in it: masks and caches of fitting sizes."""
    given = {info.name: made_up[info.name] for info in inputs if meaning(info) is None}
    return {**made_up, **completed(given, inputs)}


def _window(node: ir.Node) -> int:
    """The places of a past that slides, of the node that reads it."""
    slides = node.op == "GroupQueryAttention" and node.attrs.get("sliding_window_cache", 0)
    return int(node.attrs.get("local_window_size", 0)) if slides else 0
