"""Backends by name. Importing this module imports none of them."""

from __future__ import annotations

from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, cast

from qcompiler.errors import UsageError

if TYPE_CHECKING:
    from qcompiler.backends.base import Backend

MODULES = MappingProxyType({"onnxruntime": "qcompiler.backends.onnxruntime"})


def names() -> tuple[str, ...]:
    """The targets that `--target` takes."""
    return tuple(MODULES)


def get(target: str) -> tuple[Backend, str]:
    """The backend and the variant of "NAME" or "NAME:VARIANT".

    Raises:
        UsageError: an unknown name or variant; the message lists the known ones.
    """
    name, _, variant = target.partition(":")
    if name not in MODULES:
        raise UsageError(f"unknown target {name!r}", where="--target", hint=f"known: {', '.join(MODULES)}")
    backend = cast("Backend", import_module(MODULES[name]).BACKEND)
    return backend, backend.spec.variant(variant)
