"""A model without its big weights: all that shape inference and conversion need, in a few kilobytes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_graphsurgeon as gs
from onnx import ModelProto, TensorProto, helper, numpy_helper

from qcompiler.ir.model import Model
from qcompiler.ir.weights import Lazy, array, nbytes

SMALL = 1024
"""Bytes up to which the values of a constant are kept: shapes, axes, and scales are that small."""


def skeleton(model: Model, limit: int = SMALL) -> ModelProto:
    """The model as a proto in which constants of more than `limit` bytes have a type and a shape and no values.

    They stand as external data without a place, which is the only form that leaves names, scopes and inputs alone.
    Small external constants are read in, since nobody who gets the proto could find them. The model is not changed.
    """
    saved: list[tuple[gs.Constant, object]] = []
    try:
        for constant in (*model.constants(), *attribute_constants(model)):
            slim = _slim(constant, limit)
            if slim is not None:
                saved.append((constant, constant._values))
                constant._values = Lazy(slim, None)
        return model.to_proto()
    finally:
        for constant, values in saved:
            constant._values = values


def attribute_constants(model: Model) -> Iterator[gs.Constant]:
    """Tensors that are attributes of nodes, in every graph."""
    values = (value for node in model.all_nodes() for value in node.attrs.values())
    return (value for value in values if isinstance(value, gs.Constant))


def _slim(constant: gs.Constant, limit: int) -> TensorProto | None:
    """What stands for the constant in a skeleton, None where it is small and at hand already."""
    values = constant._values
    if nbytes(constant) <= limit:
        external = isinstance(values, Lazy) and values.external
        return numpy_helper.from_array(np.asarray(array(constant), order="C"), constant.name) if external else None
    if isinstance(values, Lazy):
        data_type, dims = values.tensor.data_type, list(values.tensor.dims)
    else:
        data_type, dims = helper.np_dtype_to_tensor_dtype(values.dtype), list(values.shape)
    return TensorProto(name=constant.name, data_type=data_type, dims=dims, data_location=TensorProto.EXTERNAL)
