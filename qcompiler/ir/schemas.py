"""What the ONNX operator standard says of an operator at a version of its domain."""

from __future__ import annotations

from onnx import defs


def schema(op: str, version: int, domain: str = "") -> defs.OpSchema | None:
    """The operator's schema at an opset; None where the standard knows none, nor such a version."""
    try:
        return defs.get_schema(op, version, domain)
    except (defs.SchemaError, TypeError):  # unknown; a version beyond the range of C
        return None


def since(op: str, version: int) -> int | None:
    """The opset that gave an operator of the default domain the form it has at `version`; None if there is none."""
    found = schema(op, version)
    return None if found is None else int(found.since_version)
