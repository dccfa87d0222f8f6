"""A record of an evaluation as plain JSON values, and back, to the last bit."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from qcompiler.analysis.record import Record


def record_to_json(record: Record) -> dict[str, Any]:
    """The fields of a record; arrays as type, shape and little-endian bytes."""
    return {entry.name: _plain(getattr(record, entry.name)) for entry in fields(Record)}


def record_from_json(found: Mapping[str, Any]) -> Record:
    """Inverse of `record_to_json`.

    Raises:
        ValueError, KeyError, TypeError: it is something else.
    """
    return Record(**{entry.name: _own(found[entry.name]) for entry in fields(Record)})


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        little = np.asarray(value, value.dtype.newbyteorder("<"), order="C")
        return {
            "dtype": little.dtype.str,
            "shape": list(value.shape),
            "bytes": base64.b64encode(little.tobytes()).decode(),
        }
    if isinstance(value, Mapping):
        return {"items": [[key, _plain(entry)] for key, entry in value.items()]}
    return list(value) if isinstance(value, tuple) else value


def _own(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(value)
    if not isinstance(value, dict):
        return value
    if "items" in value:
        return {key: _own(entry) for key, entry in value["items"]}
    dtype = np.dtype(value["dtype"])
    return (
        np.frombuffer(base64.b64decode(value["bytes"]), dtype).reshape(value["shape"]).astype(dtype.newbyteorder("="))
    )
