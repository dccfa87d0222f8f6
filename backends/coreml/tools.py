"""coremltools, imported late and quietly: it takes seconds, warns of libraries that only macOS has, and draws bars."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable
from functools import cache, wraps
from typing import Any, ParamSpec, TypeVar

from qcompiler.errors import MissingExtraError

P = ParamSpec("P")
R = TypeVar("R")


def quietly(function: Callable[P, R]) -> Callable[P, R]:
    """A function without the warnings that coremltools gives of its own code: ranges of casts, names."""

    @wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> R:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return function(*args, **kwargs)

    return called


@cache
def coremltools() -> Any:
    """The package.

    Raises:
        MissingExtraError: it is not installed.
    """
    os.environ.setdefault("TQDM_DISABLE", "1")
    logging.getLogger("coremltools").setLevel(logging.ERROR)
    try:
        import coremltools
    except ImportError as error:
        hint = "pip install 'qcompiler[coreml]', on Python before 3.14"
        raise MissingExtraError("target coreml needs coremltools", hint=hint) from error
    return coremltools


@cache
def mil() -> Any:
    """`coremltools.converters.mil.mil`: programs, functions, types."""
    coremltools()
    from coremltools.converters.mil import mil as module

    return module


@cache
def builder() -> Any:
    """What makes MIL operations."""
    coremltools()
    from coremltools.converters.mil import Builder

    return Builder


def nptype(name: str) -> Any:
    """The NumPy type that coremltools tags arrays of a MIL type with, sub-byte types included."""
    types = mil().types
    return types.nptype_from_builtin(getattr(types, name))
