"""Caches as states: read when the program starts, written when their new value is known.

    same shape       past = read_state(s); ...; coreml_update_state(s, present)
    growing          s' = slice_update(read_state(s), new, at L); coreml_update_state(s, s'); present = s'[: L + n]

L is the input `cache_length`. Source: MIL `read_state`, `slice_update`, `coreml_update_state` of iOS 18.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from qcompiler import ir
from qcompiler.backends.coreml.lower.scope import Scope, Var, mil_type, type_of
from qcompiler.backends.coreml.states import State
from qcompiler.backends.coreml.tools import builder


@dataclass(frozen=True, eq=False)
class Cache:
    """A state in a program.

    Attributes:
        state: what it stands for.
        handle: MIL's state.
        length: how many places are taken; None where the whole is replaced.
    """

    state: State
    handle: Var
    length: Var | None


def opened(caches: Mapping[str, Cache], tensors: Mapping[str, ir.Tensor]) -> dict[str, Var]:
    """What the program starts with: the values of those that do not grow."""
    found = {}
    for name, cache in caches.items():
        if cache.length is None:
            kind = mil_type(np.dtype(tensors[name].dtype))
            value = builder().read_state(input=cache.handle)
            found[name] = value if kind == "fp16" else builder().cast(x=value, dtype=kind)
    return found


def closed(caches: Mapping[str, Cache], values: Mapping[str, Var]) -> None:
    """Writes those that do not grow."""
    for cache in caches.values():
        if cache.length is None:
            value = values[cache.state.present]
            value = value if type_of(value) == "fp16" else builder().cast(x=value, dtype="fp16")
            builder().coreml_update_state(state=cache.handle, value=value)


def appended(s: Scope, cache: Cache) -> Var:
    """Concat(past, new): new entries behind those that the state has."""
    new, axis, rank = s.x(1), cache.state.axis, len(cache.state.shape)
    shape = s.op("shape", x=new)
    count = s.op("slice_by_index", x=shape, begin=[axis], end=[axis + 1]) if axis is not None else None
    end = s.op("add", x=cache.length, y=count)
    whole = [a != axis for a in range(rank)]
    taken, behind = placed(s, cache.length, whole), placed(s, end, whole)
    full = s.op("read_state", input=cache.handle)
    written = s.op(
        "slice_update", x=full, update=s.cast(new, "fp16"), begin=taken, end=behind, begin_mask=whole, end_mask=whole
    )
    held = s.op("coreml_update_state", state=cache.handle, value=written)
    start = [0] * rank
    seen = s.op("slice_by_index", x=held, begin=start, end=behind, begin_mask=[True] * rank, end_mask=whole)
    return s.cast(seen, type_of(new))


def placed(s: Scope, place: Var, whole: list[bool]) -> Var:
    """A place along one axis as a place in the whole."""
    zero = s.constant(np.zeros(1, np.int32))
    return s.op("concat", values=[zero if w else place for w in whole], axis=0) if len(whole) > 1 else place


def lengths(s: Scope, cache: Cache) -> Any:
    """Shape(past): the places that are taken, not the room there is."""
    parts = [cache.length if a == cache.state.axis else n for a, n in enumerate(cache.state.shape)]
    start, end, _ = slice(s.attr("start", 0), s.attr("end", len(parts))).indices(len(parts))
    values = [s.constant(np.array([n], np.int32)) if isinstance(n, int) else n for n in parts[start:end]]
    return s.op("concat", values=values, axis=0) if len(values) > 1 else s.op("identity", x=values[0])
