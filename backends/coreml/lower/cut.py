"""Slices and pads: what they take is known when the model is built, or computed in a few plain forms."""

from __future__ import annotations

import numpy as np

from qcompiler.backends.coreml.lower.conv import interleaved
from qcompiler.backends.coreml.lower.scope import Refused, Scope, Var, type_of
from qcompiler.backends.coreml.lower.shape import BIG, kept
from qcompiler.backends.coreml.lower.table import lowers


@lowers("Slice", to="slice_by_index, reverse", limits="computed starts or ends with open axes or steps other than 1")
def slice_(s: Scope) -> Var:
    """Ends beyond the shape are cut to it; a negative step reverses first, and then takes the mirrored range."""
    x, rank = s.x(), s.rank()
    axes = [int(v) % rank for v in s.need(3, "axes").reshape(-1)] if s.has(3) else None
    steps = [int(v) for v in s.need(4, "steps").reshape(-1)] if s.has(4) else None
    starts, ends = s.known(1), s.known(2)
    if starts is None or ends is None:
        return computed_slice(s, x, axes, steps)
    axes = axes if axes is not None else list(range(starts.size))
    steps = steps or [1] * len(axes)
    begin, end, stride = [0] * rank, [0] * rank, [1] * rank
    from_start, to_end, turned = [True] * rank, [True] * rank, []
    for axis, first, last, step in zip(axes, starts.reshape(-1), ends.reshape(-1), steps, strict=True):
        first, last, n = int(first), int(last), x.shape[axis]
        if isinstance(n, int | np.integer):
            place = slice(first, last if last > -BIG - 1 else None, step).indices(int(n))
            count = len(range(*place))
            if not count:
                raise Refused("an empty result")
            if step < 0:
                turned.append(axis)
                place = (int(n) - 1 - place[0], 0, -step)
            begin[axis], stride[axis] = place[0], abs(step)
            end[axis] = place[0] + (count - 1) * abs(step) + 1
            from_start[axis] = to_end[axis] = False
        else:
            if step < 0:
                raise Refused("a negative step along an open dimension")
            begin[axis], end[axis], stride[axis] = first, last, step
            from_start[axis], to_end[axis] = first == 0, last >= BIG
    if turned:
        x = kept(s, "reverse", x, axes=turned)
    return s.op(
        "slice_by_index", x=x, begin=begin, end=end, stride=stride, begin_mask=from_start, end_mask=to_end
    )  # fmt: skip


def computed_slice(s: Scope, x: Var, axes: list[int] | None, steps: list[int] | None) -> Var:
    """Begins and ends computed at run time, for some axes; the others stay whole."""
    count = int(s.x(1).shape[0])
    axes = axes if axes is not None else list(range(count))
    if steps is not None and any(step != 1 for step in steps):
        raise Refused("computed starts or ends with steps")
    rank, places = s.rank(), []
    for port, rest in ((1, 0), (2, BIG)):
        value = s.x(port)
        parts = [
            s.op("slice_by_index", x=value, begin=[axes.index(a)], end=[axes.index(a) + 1])
            if a in axes
            else s.constant(np.array([rest], np.int32))
            for a in range(rank)
        ]
        places.append(s.op("concat", values=parts, axis=0) if rank > 1 else parts[0])
    whole = [a not in axes for a in range(rank)]
    known = s.known(2)
    ends = [w or (known is not None and int(known.reshape(-1)[axes.index(a)]) >= BIG) for a, w in enumerate(whole)]
    return s.op("slice_by_index", x=x, begin=places[0], end=places[1], begin_mask=whole, end_mask=ends)


@lowers("Pad", to="pad, slice_by_index", limits="computed pads, wrap, reflect or edge on other than the last two axes")
def pad(s: Scope) -> Var:
    """Negative pads cut."""
    x, rank, mode = s.x(), s.rank(), s.attr("mode", "constant")
    given = s.ints("pads") or [int(v) for v in s.need(1, "pads").reshape(-1)]
    axes = [int(v) % rank for v in s.need(3, "axes").reshape(-1)] if s.has(3) else list(range(rank))
    pads = [0] * 2 * rank
    for i, axis in enumerate(axes):
        pads[axis], pads[axis + rank] = given[i], given[i + len(axes)]
    if mode == "wrap":
        raise Refused("mode wrap")
    cut = [max(-p, 0) for p in pads]
    if any(cut):
        shape = s.shape()
        end = [n - c for n, c in zip(shape, cut[rank:], strict=True)]
        x = s.op("slice_by_index", x=x, begin=cut[:rank], end=end)
    pads = [max(p, 0) for p in pads]
    if not any(pads):
        return s.op("identity", x=x) if x is s.x() else x
    kind = type_of(x)
    x = s.cast(x, "fp32") if kind in ("int32", "bool") else x
    if mode == "constant":
        value = float(s.need(2, "the value").reshape(())) if s.has(2) else float(s.attr("value", 0.0))
        limit = 6.0e4 if s.program.half or kind == "fp16" else float(np.finfo(np.float32).max)
        number = s.scalar(min(max(value, -limit), limit), x)
        found = s.op("pad", x=x, pad=np.array(interleaved(pads), np.int32), mode="constant", constant_val=number)
        return s.cast(found, kind)
    if any(p for i, p in enumerate(pads) if i % rank < rank - 2):
        raise Refused(f"mode {mode} on other than the last two axes")
    inner = interleaved([*pads[max(rank - 2, 0) : rank], *pads[rank + max(rank - 2, 0) :]])
    how = {"reflect": "reflect", "edge": "replicate"}[mode]
    return s.cast(s.op("pad", x=x, pad=np.array(inner, np.int32), mode=how), kind)
