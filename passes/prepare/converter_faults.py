"""What onnx.version_converter gets wrong, put right or refused. Each was found by running both forms in ONNX Runtime.

- Resize 10, Upsample: sample at x / scale, and the nearest value is the one below (above, where the size shrinks). From
  opset 11 on that is asymmetric and floor (ceil), which the converter does not write.
- Clip: limits become float32 constants whatever the type of the input.
- Hardmax: up to opset 12 it works on the input flattened to two dimensions; the converter leaves that out.
- GroupNormalization: up to opset 20 it has a scale per group, then one per channel; the converter leaves it.
- Dropout: up to opset 11 the mask of inference is undefined, then it is all ones.
- BatchNormalization: the outputs of training changed their number and meaning.

Source: ONNX operator standard, changelog.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from onnx import GraphProto, NodeProto, helper, numpy_helper


class WrongAnswerError(Exception):
    """The converter's answer does not mean what the question means."""


def amend(question: GraphProto, nodes: Sequence[NodeProto], prefix: str, old: int, new: int) -> None:
    """Corrects `nodes`, whose tensors are named as in `question` after `prefix`, in place.

    Raises:
        WrongAnswerError: they are wrong and cannot be corrected.
    """
    op = question.node[0].op_type
    if op in FAULTS:
        version, correct = FAULTS[op]
        if old < version <= new:
            correct(question, nodes, prefix)


def _resize(question: GraphProto, nodes: Sequence[NodeProto], prefix: str) -> None:
    resize = next(node for node in nodes if node.op_type == "Resize")
    attributes = {a.name: helper.get_attribute_value(a) for a in resize.attribute}
    scales = _constant(question, nodes, prefix, resize.input[2])
    rounding = "floor"
    if attributes.get("mode", b"nearest") == b"nearest" and question.node[0].op_type == "Resize":
        if scales is None:
            raise WrongAnswerError("its scales are not constant, and whether it enlarges decides how it rounds")
        if scales.min() < 1 < scales.max():
            raise WrongAnswerError("it enlarges one axis and shrinks another, which no rounding rule serves")
        rounding = "ceil" if scales.min() < 1 else "floor"
    _set(resize, "coordinate_transformation_mode", "asymmetric")
    _set(resize, "nearest_mode", rounding)


def _clip(question: GraphProto, nodes: Sequence[NodeProto], _prefix: str) -> None:
    elem_type = _type_of_first_input(question)
    for node in nodes:
        if node.op_type == "Constant":
            value = numpy_helper.to_array(node.attribute[0].t)
            dtype = helper.tensor_dtype_to_np_dtype(elem_type)
            node.attribute[0].t.CopyFrom(numpy_helper.from_array(value.astype(dtype)))


def _hardmax(question: GraphProto, nodes: Sequence[NodeProto], _prefix: str) -> None:
    axis = next((a.i for a in question.node[0].attribute if a.name == "axis"), 1)
    shape = question.input[0].type.tensor_type.shape.dim
    if axis not in (-1, len(shape) - 1):
        raise WrongAnswerError(f"it works on several axes at once, from {axis} on")
    _set(nodes[-1], "axis", -1)


def _group_normalization(_question: GraphProto, _nodes: Sequence[NodeProto], _prefix: str) -> None:
    raise WrongAnswerError("its scale and bias are given per group, not per channel")


def _dropout(question: GraphProto, _nodes: Sequence[NodeProto], _prefix: str) -> None:
    if len(question.output) > 1:
        raise WrongAnswerError("its mask is used")


def _batch_normalization(question: GraphProto, _nodes: Sequence[NodeProto], _prefix: str) -> None:
    if len(question.output) > 1:
        raise WrongAnswerError("it is in training mode")


def _constant(
    question: GraphProto, nodes: Sequence[NodeProto], prefix: str, name: str
) -> npt.NDArray[np.generic] | None:
    """The value of a constant tensor, None where it is computed."""
    tensors = {prefix + tensor.name: tensor for tensor in question.initializer}
    tensors |= {node.output[0]: node.attribute[0].t for node in nodes if node.op_type == "Constant"}
    return numpy_helper.to_array(tensors[name]) if name in tensors else None


def _type_of_first_input(question: GraphProto) -> int:
    name = question.node[0].input[0]
    types = {info.name: info.type.tensor_type.elem_type for info in question.input}
    return int({**types, **{tensor.name: tensor.data_type for tensor in question.initializer}}[name])


def _set(node: NodeProto, name: str, value: str | int) -> None:
    kept = [attribute for attribute in node.attribute if attribute.name != name]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute(name, value)])


Correct = Callable[[GraphProto, Sequence[NodeProto], str], None]
FAULTS: dict[str, tuple[int, Correct]] = {
    "Resize": (11, _resize),
    "Upsample": (11, _resize),
    "Clip": (11, _clip),
    "Hardmax": (13, _hardmax),
    "GroupNormalization": (21, _group_normalization),
    "Dropout": (12, _dropout),
    "BatchNormalization": (14, _batch_normalization),
}
"""The opset from which the converter's form is wrong, and the correction."""
