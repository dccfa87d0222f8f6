"""Backends by name. Importing this module imports none of them."""

from __future__ import annotations

from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, cast

from qcompiler.errors import UsageError

if TYPE_CHECKING:
    from qcompiler.backends.base import Backend

MODULES = MappingProxyType(
    {
        "onnxruntime": "qcompiler.backends.onnxruntime",
        "qnn": "qcompiler.backends.qnn",
        "coreml": "qcompiler.backends.coreml",
        "tensorrt": "qcompiler.backends.tensorrt",
    }
)
"""Each module has `backend(variant)`, which gives the backend for a variant, the default one for ""."""


def names() -> tuple[str, ...]:
    """The targets that `--target` takes."""
    return tuple(MODULES)


def get(target: str) -> Backend:
    """The backend of "NAME" or "NAME:VARIANT".

    Raises:
        UsageError: an unknown name or variant; the message lists the known ones.
    """
    name, _, variant = target.partition(":")
    if name not in MODULES:
        raise UsageError(f"unknown target {name!r}", where="--target", hint=f"known: {', '.join(MODULES)}")
    return cast("Backend", import_module(MODULES[name]).backend(variant))
