"""Inputs of transformers that follow from the others, so that tokens alone are data enough.

    past*                            no tokens yet: an open size behind the first axis that nothing else tells is 0.
                                     Where all sizes are fixed, zeros, which the mask hides. A past that slides has
                                     the places of its window, and no place in the mask
    *attention_mask                  1 for each place of a given past and each token, 0 for each of those zeros
    position_ids, cache_position     0, 1, 2, ...
    token_type_ids                   0
    use_cache_branch                 false

The names are those that exporters agree on: Optimum, the builder of onnxruntime-genai, and the arguments of
Transformers' models, which PyTorch keeps. The tokens are the first input of two axes or more that is given and is none
of these; their second axis runs over positions. Named sizes are those of the inputs that are given.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import numpy as np

from qcompiler.data.sample import Array, InputInfo

PAST: Final = "an empty past"
MASK: Final = "ones"
COUNTED: Final = "counted from 0"
BRANCH: Final = "false"
ENDINGS: Final = {
    "attention_mask": MASK,
    "position_ids": COUNTED,
    "cache_position": COUNTED,
    "token_type_ids": "zeros",
    "use_cache_branch": BRANCH,
}
PLACES: Final = 2
"""The axis of a past that runs over positions."""


def meaning(info: InputInfo) -> str | None:
    """What is fed where the input is not given; None where it has to be given."""
    if info.name.startswith("past") and info.dtype.kind == "f" and len(info.shape or ()) == 4:
        return PAST
    return next((what for ending, what in ENDINGS.items() if info.name.endswith(ending)), None)


def missing(given: Iterable[str], inputs: Sequence[InputInfo]) -> dict[str, str]:
    """What is fed to the inputs that are not given and need not be."""
    names = set(given)
    found = ((info.name, meaning(info)) for info in inputs if info.name not in names)
    return {name: what for name, what in found if what is not None}


def listed(absent: Mapping[str, str]) -> str:
    """`attention_mask (ones), past_key_values.0.key and 3 more (an empty past)`."""
    by: dict[str, list[str]] = {}
    for name, what in absent.items():
        by.setdefault(what, []).append(name)
    more = ("" if len(names) == 1 else f" and {len(names) - 1} more" for names in by.values())
    return ", ".join(f"{names[0]}{rest} ({what})" for (what, names), rest in zip(by.items(), more, strict=True))


def completed(feed: Mapping[str, Array], inputs: Sequence[InputInfo]) -> dict[str, Array]:
    """The feed and what follows from it; what does not is still missing."""
    absent, result = missing(feed, inputs), dict(feed)
    tokens = _tokens(feed, inputs)
    if not absent or tokens is None:
        return result
    sizes = _named_sizes(feed, inputs)
    batch, length = tokens.shape[:2]
    branch = BRANCH in absent.values()
    past = hidden = 0
    for info in (info for info in inputs if meaning(info) == PAST):
        if info.name in absent:
            shape = _sized(info, sizes, batch, info.window)
            if 0 not in shape and not info.window and not branch and not _fixed(info):
                continue  # keys of an encoder are no past: they have its length
            result[info.name] = np.zeros(shape, info.dtype)
            hidden = hidden if info.window else max(hidden, shape[PLACES])
        if result[info.name].ndim == 4 and not info.window:
            past = max(past, result[info.name].shape[PLACES])
    for info in inputs:
        what = absent.get(info.name, PAST)
        if what != PAST:
            values = np.zeros(_sized(info, sizes, batch, length + past * (what == MASK)), info.dtype)
            if what == MASK:
                values[..., 0 if branch or values.shape[-1] < hidden + length else hidden :] = 1
            elif what == COUNTED:
                values[...] = np.arange(values.shape[-1]).astype(info.dtype)
            result[info.name] = values
    return result


def _tokens(feed: Mapping[str, Array], inputs: Sequence[InputInfo]) -> Array | None:
    given = (feed[info.name] for info in inputs if info.name in feed and meaning(info) is None)
    return next((values for values in given if values.ndim >= 2), None)


def _named_sizes(feed: Mapping[str, Array], inputs: Sequence[InputInfo]) -> dict[str, int]:
    told = (zip(info.shape or (), feed[info.name].shape, strict=False) for info in inputs if info.name in feed)
    return {size: got for pairs in told for size, got in pairs if isinstance(size, str) and size}


def _fixed(info: InputInfo) -> bool:
    """Whether all sizes behind the first are stated."""
    return all(isinstance(size, int) for size in (info.shape or ())[1:])


def _sized(info: InputInfo, sizes: Mapping[str, int], batch: int, other: int) -> tuple[int, ...]:
    """The shape: sizes that are stated or named, else the batch in front of others, and `other`."""
    shape = info.shape or ()
    open_ = (batch if axis == 0 and len(shape) > 1 else other for axis in range(len(shape)))
    return tuple(
        size if isinstance(size, int) else sizes.get(size or "", rest) for size, rest in zip(shape, open_, strict=True)
    )
