"""The table of the evaluator: MIL operation -> NumPy function of its inputs, by name.

Floats come as float32, whatever their declared type is; the interpreter rounds what a function returns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Array = Any
"""A NumPy array; what ufuncs make of them is not followed by types."""

Function = Callable[..., Any]

COMPUTES: dict[str, Function] = {}


def computes(*names: str) -> Callable[[Function], Function]:
    """Enters a function into the table."""

    def enter(function: Function) -> Function:
        for name in names:
            COMPUTES[name] = function
        return function

    return enter


def ints(values: Any) -> tuple[int, ...]:
    """A MIL list of integers."""
    return tuple(int(v) for v in np.asarray(values).reshape(-1))
