"""A model without its big weights: all that shape inference and conversion need, in a few kilobytes."""

from __future__ import annotations

import onnx_graphsurgeon as gs
from onnx import ModelProto, TensorProto

from qcompiler.ir.model import Model
from qcompiler.ir.weights import describe, inline, nbytes

SMALL = 1024
"""Bytes up to which the values of a constant are kept: shapes, axes, and scales are that small."""


def skeleton(model: Model, limit: int = SMALL) -> ModelProto:
    """The model as a proto in which constants of more than `limit` bytes have a type and a shape and no values.

    They stand as external data without a place, which is the only form that leaves names, scopes and inputs alone.
    Small external constants are read in, since nobody who gets the proto could find them. The model is not changed.
    """

    def store(constant: gs.Constant) -> TensorProto:
        if nbytes(constant) <= limit:
            return inline(constant)
        tensor = TensorProto(data_location=TensorProto.EXTERNAL)
        describe(constant, tensor)
        return tensor

    return model.to_proto(store)
