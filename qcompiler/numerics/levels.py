"""What a code stands for, in units of its scale: whole numbers, or the values of a codebook.

    integers   value = (code - zero_point) * scale     int8 ... int2; ternary is int2 without its lowest code
    codebook   value = book[code] * scale              nf4, fp4 (E2M1), learned ones (`codebook`); no zero point

One rounding serves all: the nearest level, the even integer on a tie; codebooks take the lower level on a tie.
Sources: Dettmers et al., "QLoRA" (2023), appendix E, for nf4; OCP Microscaling Formats 1.0, section 5.3.3, for E2M1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qcompiler.errors import InternalError

F32 = npt.NDArray[np.float32]

NF4_BOOK = (-127, -88, -67, -50, -36, -23, -12, 0, 10, 20, 31, 43, 56, 71, 92, 127)
"""In 127ths, with which kernels of 8 bits compute: up to 0.4 % of the largest value from where they were published."""
E2M1_BOOK = (-12, -8, -6, -4, -3, -2, -1, 0, 1, 2, 3, 4, 6, 8, 12)
"""In halves."""


@dataclass(frozen=True)
class Levels:
    """The levels of a grid, ascending.

    Attributes:
        low, high: smallest and largest code.
        symmetric: the zero point is `middle`, for all blocks.
        book: values of the codes from `low` on, ascending; empty for integers, which stand for themselves.
        positive: no scale may be negative.
    """

    low: int
    high: int
    symmetric: bool = False
    book: tuple[float, ...] = ()
    positive: bool = False

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise InternalError(f"a grid from {self.low} to {self.high} has no codes")
        if self.book and (len(self.book) != self.high - self.low + 1 or list(self.book) != sorted(set(self.book))):
            raise InternalError("a codebook has one value for each code, ascending")

    @staticmethod
    def unsigned(bits: int, *, symmetric: bool = False) -> Levels:
        """0 to 2**bits - 1."""
        return Levels(0, 2**bits - 1, symmetric)

    @staticmethod
    def of(book: tuple[float, ...]) -> Levels:
        """The levels of a codebook."""
        return Levels(0, len(book) - 1, True, book)

    @property
    def middle(self) -> int:
        """The zero point where it is fixed."""
        return 0 if self.low < 0 or self.book else (self.low + self.high + 1) // 2

    @property
    def bottom(self) -> float:
        """The lowest value about a zero point in the middle, in units of the scale."""
        return self.book[0] if self.book else float(self.low - self.middle)

    @property
    def top(self) -> float:
        """The highest one."""
        return self.book[-1] if self.book else float(self.high - self.middle)

    def codes(self, x: F32, scale: npt.ArrayLike, zero_point: npt.ArrayLike) -> npt.NDArray[np.int32]:
        """The code of the nearest level; `scale` and `zero_point` broadcast over `x`, a scale may be negative."""
        with np.errstate(over="ignore", invalid="ignore"):
            steps = np.divide(x, scale, dtype=np.float32)
        if self.book:
            book = np.asarray(self.book, np.float32)
            return np.asarray(np.searchsorted((book[1:] + book[:-1]) / 2, steps) + self.low, np.int32)
        np.rint(steps, out=steps)
        steps += np.asarray(zero_point, np.float32)
        np.fmax(steps, self.low, out=steps)  # that of NaN is the lowest
        np.minimum(steps, self.high, out=steps)
        return steps.astype(np.int32)

    def values(self, codes: npt.NDArray[np.integer], scale: npt.ArrayLike, zero_point: npt.ArrayLike) -> F32:
        """The values that codes stand for."""
        if self.book:
            steps = np.asarray(self.book, np.float32)[np.asarray(codes) - self.low]
        else:
            steps = (np.asarray(codes, np.int32) - np.asarray(zero_point, np.int32)).astype(np.float32)
        return np.asarray(steps * np.asarray(scale, np.float32), np.float32)

    def nearest(self, x: F32, scale: npt.ArrayLike, zero_point: npt.ArrayLike) -> F32:
        """`values(codes(x))`, without codes in between where that is faster."""
        if self.book:
            return self.values(self.codes(x, scale, zero_point), scale, zero_point)
        with np.errstate(over="ignore", invalid="ignore"):
            steps = np.divide(x, scale, dtype=np.float32)
        np.rint(steps, out=steps)
        zero = np.asarray(zero_point, np.float32)
        np.fmax(steps, self.low - zero, out=steps)
        np.minimum(steps, self.high - zero, out=steps)
        steps *= np.asarray(scale, np.float32)
        return np.asarray(steps)
