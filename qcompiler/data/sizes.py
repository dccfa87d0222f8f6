"""Which sizes the samples give the open dimensions of a model's inputs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from qcompiler.data.sample import InputInfo, Sample


def is_open(info: InputInfo) -> bool:
    """Whether a size of an input is not stated by the model."""
    return info.shape is None or not all(isinstance(size, int) for size in info.shape)


def agreed_sizes(samples: Iterable[Sample], inputs: Sequence[InputInfo]) -> dict[str, tuple[int, ...]]:
    """The shape of each input with open dimensions that all samples agree on; reads until none is left or they end."""
    open_ = {info.name for info in inputs if is_open(info)}
    found: dict[str, tuple[int, ...]] = {}
    for sample in samples:
        if not open_:
            break
        for name in sorted(open_):
            shape = tuple(sample.feed[name].shape)
            if found.setdefault(name, shape) != shape:
                open_.remove(name)
                del found[name]
    return found
