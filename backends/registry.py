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
    module = import_module(MODULES[name])
    variant = cast("Backend", module.BACKEND).spec.variant(variant)
    # a target with one table for all its variants exports BACKEND alone
    return getattr(module, "BACKENDS", {}).get(variant, module.BACKEND), variant
