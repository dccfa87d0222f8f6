"""Which nodes float16 is too small for: those with a value beyond half of its range on calibration samples.

    |x| > 32752 = 65504 / 2      the node that computes x, and those that read it, stay in float32

The other half is for samples that go further than these. Values in between the operations of one node (squares inside a
normalisation) are not seen by the graph; lowerings scale them (`norm`), or the node is one that sums: its square is
looked at, too. Nodes in a branch of an If count as any other, on the samples that take it.

Constants that close a place (-1e9 under a softmax) become -6e4 when they are lowered (`scope`), and so do the values
that they are handed on in: what lies below float16 there does not count.

Angles are the other case. Float16 has 11 bits, so that near an angle a its step is about a / 1024, and the cosine of it
is as far off: beyond 16 the sine, the cosine and what computes the angle from integers stay in float32, as positions
in a long text need it.
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
from qcompiler.backends.coreml.lower.scope import HALF_MAX, MASKING
from qcompiler.data import Sample

LIMIT = 65504.0 / 2
HANDED_ON = frozenset(
    {
        "Add",
        "Where",
        "Cast",
        "Reshape",
        "Unsqueeze",
        "Squeeze",
        "Expand",
        "Transpose",
        "Slice",
        "Gather",
        "Concat",
        "Trilu",
    }
)
ANGLE = 16.0
PERIODIC = frozenset({"Sin", "Cos"})
SQUARES = frozenset({"ReduceL2", "ReduceSumSquare", "LayerNormalization", "LpNormalization", "InstanceNormalization"})
SAMPLES = 32


@dataclass(frozen=True)
class Overflow:
    """A value that is too large for float16.

    Attributes:
        tensor, node, op: the value and what computes it.
        largest: its largest magnitude.
        stays: nodes that stay float32 for it.
        why: what is wrong with it.
    """

    tensor: str
    node: str
    op: str
    largest: float
    stays: tuple[str, ...]
    why: str = "too near the end of float16"


def overflows(model: ir.Model, source: Iterable[Sample], samples: int = SAMPLES) -> list[Overflow]:
    """The values of a graph that are too large, in order; inputs that are count as computed by nothing.

    Raises:
        DataError: the model cannot run on a sample.
    """
    nodes = list(model.all_nodes())
    producer = {tensor.name: node for node in nodes for tensor in node.outputs if tensor.name}
    names = [tensor.name for tensor in model.inputs] + list(producer)
    peaks: dict[str, float] = {}
    closing = masks(model)
    for event in Tap(model, list(itertools.islice(source, samples)), names, config=SessionConfig("off")):
        if isinstance(event, Seen):
            for name, value in event.values.items():
                if is_float(value) and value.size:
                    value = np.where(value < -HALF_MAX, 0, value) if name in closing else value
                    peaks[name] = max(peaks.get(name, 0.0), peak(value))
    readers: dict[str, list[ir.Node]] = {}
    for node in nodes:
        for tensor in node.inputs:
            readers.setdefault(tensor.name, []).append(node)
    found = []
    for name, largest in peaks.items():
        made, reads = producer.get(name), readers.get(name, [])
        if largest > LIMIT:
            stays = [node.name for node in reads] + ([made.name] if made is not None else [])
        else:
            stays = [node.name for node in reads if node.op in SQUARES and largest * largest > LIMIT]
        angles = [node for node in reads if node.op in PERIODIC] if largest > ANGLE else []
        node, op = (made.name, made.op) if made is not None else ("", "an input")
        if stays:
            found.append(Overflow(name, node, op, largest, tuple(dict.fromkeys(stays))))
        if angles:
            stays = [node.name for node in angles] + ([] if made is None else behind(made))
            found.append(
                Overflow(name, node, op, largest, tuple(dict.fromkeys(stays)), "too coarse an angle in float16")
            )
    return found


def masks(model: ir.Model) -> set[str]:
    """Values that hold a very negative constant where something is closed."""
    found: set[str] = set()
    for node in model.all_nodes():
        constants = [t for t in node.inputs if isinstance(t, ir.Constant) and str(t.dtype) in ("float32", "float16")]
        made = node.op in MASKING and any(float(ir.array(t).min(initial=0.0)) < -HALF_MAX for t in constants)
        if made or (node.op in HANDED_ON and any(t.name in found for t in node.inputs)):
            found.update(t.name for t in node.outputs)
    return found


def behind(node: ir.Node) -> list[str]:
    """A node and those that its float operands come from."""
    found, waiting = dict[str, None](), [node]
    while waiting:
        at = waiting.pop()
        if at.name not in found:
            found[at.name] = None
            floats = [
                t for t in at.inputs if not isinstance(t, ir.Constant) and np.dtype(t.dtype or np.float32).kind == "f"
            ]
            waiting += [made for tensor in floats for made in tensor.inputs]
    return list(found)


def peak(value: np.ndarray) -> float:
    """The largest finite magnitude; masks of minus infinity do not count, since constants are clamped."""
    size = np.abs(value.astype(np.float32, copy=False))
    return float(np.max(size, where=np.isfinite(size), initial=0.0))
