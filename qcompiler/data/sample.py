"""The values of the data layer: what a model takes, one sample, and a source of samples."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
Label: TypeAlias = Array | int | None


@dataclass(frozen=True)
class InputInfo:
    """One input of the model.

    Args:
        name: as in the model.
        dtype: element type; text inputs have `object`.
        shape: per dimension a fixed size, the name of a symbolic size, or None where nothing is known. The whole is
            None where even the rank is unknown.
        window: places of a past that holds the last ones alone, and has them all from the start; 0 for any other input.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | str | None, ...] | None
    window: int = 0


@dataclass(frozen=True, eq=False)
class Sample:
    """What the model is run with once.

    Args:
        feed: input name to array. The arrays may be views of what the caller owns: read them, do not write.
        label: the right answer: an int for a class, an array for anything else, None without labels. Where the model
            has a fixed batch B > 1, an array of B labels.
        name: where a person finds it: "calib.npz[17]", "test_data_set_3", "img_012.jpg".
    """

    feed: dict[str, Array]
    label: Label
    name: str


class Source(Protocol):
    """Samples that can be read any number of times, each time from the start and in the same order."""

    @property
    def count(self) -> int | None:
        """Number of samples, after the limit; None where only reading tells."""

    @property
    def has_labels(self) -> bool:
        """Whether every sample has a label (if not, none has)."""

    @property
    def implied(self) -> dict[str, str]:
        """Inputs that the data leaves out, with what is fed (`implied`)."""

    @property
    def description(self) -> str:
        """A few words for a report, without folders."""

    def __iter__(self) -> Iterator[Sample]:
        """Checked samples; raises DataError at the first that does not fit the model."""

    def fingerprint(self) -> str:
        """sha256 (hex) of what the samples hold: names, types, shapes, values, labels, order; not of where it lies."""


@dataclass(frozen=True)
class Reader:
    """What each form of data (`npz_file`, `image_folder`, ...) gives: unchecked samples, and what is known beforehand.

    Args:
        read: starts again from the first sample at each call.
        count: number of samples, None if unknown.
        has_labels: None if only the first sample tells.
        description: a few words for a report.
        given: names of the inputs that the first sample holds, None if unknown.
        volatile: a program makes the samples, so each reading is checked to give the same ones.
        behind: starts at the sample of that number without reading those before it; None where it must read them.
    """

    read: Callable[[], Generator[Sample, None, None]]
    count: int | None
    has_labels: bool | None
    description: str
    given: frozenset[str] | None = None
    volatile: bool = False
    behind: Callable[[int], Generator[Sample, None, None]] | None = None
