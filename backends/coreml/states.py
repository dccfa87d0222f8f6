"""Which inputs become states: caches that the package keeps between predictions, in place of inputs and outputs.

--state PAST=PRESENT          same shape: the state holds PRESENT after a prediction, and the next one reads it as PAST
--state PAST=PRESENT:LENGTH   PRESENT = Concat(PAST, new) along the one open dimension: the state has room for LENGTH

In the second form the package takes one more input, `cache_length`: how many places hold something. The prediction
writes the new entries behind them, and sees those places and the new ones. "*" in PAST stands for the same text in
PRESENT. States came with iOS 18, and hold float16 (fact sheet, section 4).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qcompiler import ir
from qcompiler.errors import UsageError

WHERE = "--state"
LENGTH = "cache_length"
FORM = "write PAST=PRESENT, or PAST=PRESENT:LENGTH where the cache grows"


@dataclass(frozen=True)
class State:
    """A cache.

    Attributes:
        past, present: the input and the output that it takes the place of.
        shape: of the state.
        axis: along which new entries are put behind old ones; None where the whole is replaced.
    """

    past: str
    present: str
    shape: tuple[int, ...]
    axis: int | None


def parsed(text: str) -> tuple[str, str, int]:
    """`past.*=present.*:512` in parts; 0 where no length is given.

    Raises:
        UsageError: another form.
    """
    past, equals, rest = text.partition("=")
    present, _, length = rest.rpartition(":") if re.search(r":\d+$", rest) else (rest, "", "0")
    if not (past and equals and present) or past.count("*") > 1 or present.count("*") > past.count("*"):
        raise UsageError(f"{text!r} names no cache", where=WHERE, hint=FORM)
    return past, present, int(length)


def states(model: ir.Model, wishes: Sequence[str]) -> tuple[State, ...]:
    """The caches of a model.

    Raises:
        UsageError: an input or output is not there, or the graph does not use them as a cache.
    """
    found: dict[str, State] = {}
    outputs = {tensor.name: tensor for tensor in model.outputs}
    for text in wishes:
        past, present, length = parsed(text)
        pattern = re.compile("(.*)".join(map(re.escape, past.split("*"))))
        matches = [(tensor, hit) for tensor in model.inputs if (hit := pattern.fullmatch(tensor.name))]
        if not matches:
            raise UsageError(f"{past!r} is no input", where=WHERE, hint=f"inputs: {', '.join(names(model.inputs))}")
        for tensor, hit in matches:
            name = present.replace("*", hit.group(1)) if "*" in present else present
            if name not in outputs:
                raise UsageError(f"{name!r} is no output", where=WHERE, hint=f"outputs: {', '.join(outputs)}")
            found[tensor.name] = state(tensor, outputs[name], length)
    if found and len({s.present for s in found.values()}) == len(outputs):
        raise UsageError("nothing is left for the package to give: all outputs are states", where=WHERE)
    return tuple(found.values())


def names(tensors: Sequence[ir.Tensor]) -> list[str]:
    """Of tensors."""
    return [str(tensor.name) for tensor in tensors]


def state(past: ir.Tensor, present: ir.Tensor, length: int) -> State:
    """The cache of one input and one output.

    Raises:
        UsageError: they are used otherwise.
    """
    shape, said = list(past.shape or ()), f"{past.name!r} is {past.shape}"
    if past.dtype is None or np.dtype(past.dtype).kind != "f":
        raise UsageError(f"{past.name!r} holds {past.dtype}; states hold float16", where=WHERE)
    wide = [axis for axis, n in enumerate(shape) if not isinstance(n, int)]
    if not wide:
        if list(present.shape or ()) != shape:
            raise UsageError(f"{said}, and {present.name!r} {present.shape}; a state has one shape", where=WHERE)
        return State(past.name, present.name, tuple(shape), None)
    if len(wide) > 1 or not length:
        hint = "fix the others with --shape, and give the length of this one: PAST=PRESENT:LENGTH"
        raise UsageError(f"{said}; one dimension of a cache may be open", where=WHERE, hint=hint)
    writer = present.inputs[0] if present.inputs else None
    if writer is None or writer.op != "Concat" or len(writer.inputs) != 2 or writer.inputs[0] is not past:
        raise UsageError(f"{present.name!r} is not Concat({past.name}, new)", where=WHERE)
    if int(writer.attrs["axis"]) % len(shape) != wide[0]:
        raise UsageError(f"{writer.name!r} joins along another dimension than {shape[wide[0]]!r}", where=WHERE)
    other = next((node for node in past.outputs if node is not writer and node.op != "Shape"), None)
    if other is not None:
        said = (
            f"{past.name!r} is read by {other.op} {other.name!r}, too; a cache that grows is read by its Concat alone"
        )
        raise UsageError(said, where=WHERE)
    return State(past.name, present.name, (*shape[: wide[0]], length, *shape[wide[0] + 1 :]), wide[0])
