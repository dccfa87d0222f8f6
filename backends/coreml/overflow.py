"""Which nodes float16 is too small for: those with a value beyond half of its range on calibration samples.

    |x| > 32752 = 65504 / 2      the node that computes x, and those that read it, stay in float32

The other half is for samples that go further than these. Values in between the operations of one node (squares inside a
normalisation) are not seen by the graph; lowerings scale them (`norm`), or the node is one that sums: its square is
looked at, too.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from qcompiler import ir
from qcompiler.analysis import SessionConfig
from qcompiler.analysis.run import is_float
from qcompiler.analysis.tap import Seen, Tap
from qcompiler.data import Sample

LIMIT = 65504.0 / 2
SQUARES = frozenset({"ReduceL2", "ReduceSumSquare", "LayerNormalization", "LpNormalization", "InstanceNormalization"})
SAMPLES = 32


@dataclass(frozen=True)
class Overflow:
    """A value that is too large for float16.

    Attributes:
        tensor, node, op: the value and what computes it.
        largest: its largest magnitude.
        stays: nodes that stay float32 for it.
    """

    tensor: str
    node: str
    op: str
    largest: float
    stays: tuple[str, ...]


def overflows(model: ir.Model, source: Iterable[Sample], samples: int = SAMPLES) -> list[Overflow]:
    """The values of a graph that are too large, in order; inputs that are count as computed by nothing.

    Raises:
        DataError: the model cannot run on a sample.
    """
    producer = {tensor.name: node for node in model.nodes for tensor in node.outputs if tensor.name}
    names = [tensor.name for tensor in model.inputs] + list(producer)
    peaks: dict[str, float] = {}
    for event in Tap(model, list(itertools.islice(source, samples)), names, config=SessionConfig("off")):
        if isinstance(event, Seen):
            for name, value in event.values.items():
                if is_float(value) and value.size:
                    peaks[name] = max(peaks.get(name, 0.0), peak(value))
    readers: dict[str, list[ir.Node]] = {}
    for node in model.nodes:
        for tensor in node.inputs:
            readers.setdefault(tensor.name, []).append(node)
    found = []
    for name, largest in peaks.items():
        made, reads = producer.get(name), readers.get(name, [])
        if largest > LIMIT:
            stays = [node.name for node in reads] + ([made.name] if made is not None else [])
        else:
            stays = [node.name for node in reads if node.op in SQUARES and largest * largest > LIMIT]
        if stays:
            node, op = (made.name, made.op) if made is not None else ("", "an input")
            found.append(Overflow(name, node, op, largest, tuple(dict.fromkeys(stays))))
    return found


def peak(value: np.ndarray) -> float:
    """The largest finite magnitude; masks of minus infinity do not count, since constants are clamped."""
    size = np.abs(value.astype(np.float32, copy=False))
    return float(np.max(size, where=np.isfinite(size), initial=0.0))
