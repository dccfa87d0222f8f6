"""What surrounds the graph of a model file: versions, opsets, and text that can be read."""

from __future__ import annotations

from typing import Any

import onnx
from onnx import ModelProto, TensorProto

from qcompiler.errors import ModelError

# The first IR version whose models declare their opsets.
OPSET_IR_VERSION = 3


def check_text(message: Any) -> None:
    """Refuses names and other strings, however deep, that are not UTF-8; protobuf hands them out as bytes.

    Raises:
        ModelError: there is one.
    """
    if isinstance(message, TensorProto):
        fields = [(message.DESCRIPTOR.fields_by_name["name"], message.name), *_entries(message)]
    else:
        fields = message.ListFields()
    for entry, value in fields:
        several = (value,) if isinstance(value, str | bytes) or hasattr(value, "ListFields") else value
        if entry.type == entry.TYPE_STRING and any(isinstance(text, bytes) for text in several):
            raise ModelError(f"{entry.name} is not valid UTF-8: {next(t for t in several if isinstance(t, bytes))!r}")
        if entry.type == entry.TYPE_MESSAGE:
            for part in several:
                check_text(part)


def _entries(tensor: TensorProto) -> list[tuple[Any, Any]]:
    """The fields of a tensor that hold text, without touching its values."""
    names = ("doc_string", "external_data", "metadata_props")
    return [(tensor.DESCRIPTOR.fields_by_name[name], getattr(tensor, name)) for name in names]


def plain_domain(domain: str) -> str:
    """The domain with "ai.onnx" under its shorter name."""
    return "" if domain == "ai.onnx" else domain


def check_header(proto: ModelProto) -> dict[str, int]:
    """The opset of each domain.

    Raises:
        ModelError: no graph, no or unknown versions.
    """
    if not proto.HasField("graph"):
        raise ModelError("this is not an ONNX model: it has no graph")
    if proto.ir_version < OPSET_IR_VERSION:
        raise ModelError(
            f"IR version {proto.ir_version} is not supported" if proto.ir_version else "the model has no IR version",
            hint=f"export the model with IR version {OPSET_IR_VERSION} or later",
        )
    if proto.ir_version > onnx.IR_VERSION:
        raise ModelError(
            f"IR version {proto.ir_version} is newer than the installed onnx package knows ({onnx.IR_VERSION})",
            hint="upgrade onnx, or export the model for an older version",
        )
    opsets: dict[str, int] = {}
    for entry in proto.opset_import:
        domain = plain_domain(entry.domain)
        if opsets.setdefault(domain, entry.version) != entry.version:
            raise ModelError(f"opset of domain {domain or 'ai.onnx'!r} is given twice, with different versions")
    newest = onnx.defs.onnx_opset_version()
    if not opsets:
        raise ModelError("the model declares no opset", hint="export it again, or set opset_import")
    if not 0 < opsets.get("", newest) <= newest:
        raise ModelError(
            f"opset {opsets['']} is not one that the installed onnx package knows (1 to {newest})",
            hint="upgrade onnx, or export the model for an older opset",
        )
    return opsets
