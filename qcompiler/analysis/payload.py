"""A model in the form that ONNX Runtime is given: bytes, and the weights that are not in them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from qcompiler import ir

if TYPE_CHECKING:
    from onnx import ModelProto


@dataclass(frozen=True, eq=False)
class Payload:
    """What a session is made of.

    Attributes:
        content: a serialized `ModelProto`.
        weights: initializers that `content` declares as external, by name: large ones and those of external files.
    """

    content: bytes
    weights: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)

    @staticmethod
    def of(model: ir.Model, *, apart: bool = False) -> Payload:
        """The payload of a model; with `apart` no large weight is in the bytes, so that they are cheap to change."""
        return Payload(*(ir.serialized(model, external_above=0) if apart else ir.serialized(model)))

    def model(self) -> ir.Model:
        """The model again."""
        return ir.deserialized(self.content, self.weights)

    @property
    def digest(self) -> str:
        """sha256 of the content and of the weights, by name."""
        digest = hashlib.sha256(self.content)
        for name, array in sorted(self.weights.items()):
            digest.update(f"{name!r} {array.dtype.name} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).view(np.uint8).data)
        return digest.hexdigest()

    def proto(self) -> ModelProto:
        """The content, parsed."""
        from onnx import ModelProto

        proto: ModelProto = ModelProto.FromString(self.content)
        return proto

    def with_proto(self, proto: ModelProto) -> Payload:
        """The same weights under a changed graph."""
        return Payload(proto.SerializeToString(), self.weights)
