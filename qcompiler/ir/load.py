"""An ONNX file becomes a `Model`, or one line says why not.

Only the structure is read: external weights stay on disk, weights inside the file stay in the proto. What the file says
is checked before memory is taken for it, since a model may come from anywhere.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt
import onnx
from onnx import ModelProto, TensorProto

from qcompiler.errors import ModelError
from qcompiler.ir.check import RUNTIME_OPERATORS, Check
from qcompiler.ir.dag import topological
from qcompiler.ir.functions import inline_functions, walk
from qcompiler.ir.header import check_header, check_text
from qcompiler.ir.model import Model
from qcompiler.ir.weights import Held, Lazy, describe

PROTOBUF_LIMIT = (1 << 31) - 1

# How files begin that are often mistaken for a model: bytes, position, what it is.
_OTHERS = (
    (b"version https://git-lfs", 0, "a Git LFS pointer, not the model itself", "run 'git lfs pull'"),
    (b"PK\x03\x04", 0, "a zip archive, not an ONNX model", "export a PyTorch or Keras model to ONNX first"),
    (b"\x89HDF", 0, "an HDF5 file, not an ONNX model", "export the Keras model to ONNX first"),
    (b"TFL3", 4, "a TensorFlow Lite model, not an ONNX model", "convert it with tf2onnx first"),
    (b"ORTM", 4, "a model in ORT format, not in ONNX format", "compile the ONNX file that it was made from"),
)


def load(path: str | os.PathLike[str]) -> Model:
    """Reads an ONNX file.

    Functions are inlined, sparse initializers expanded, nodes put in topological order.

    Raises:
        ModelError: the file is missing, is not an ONNX model, is invalid, or refers to unsafe or missing external data;
            one line that names the file and the node or tensor.
    """
    file = Path(path)
    try:
        return _model(_parse(_read(file)), file.parent)
    except ModelError as error:
        where = ": ".join(filter(None, [str(file), error.where]))
        raise ModelError(error.what, where=where, hint=error.hint) from error


def deserialized(content: bytes, weights: Mapping[str, npt.NDArray[Any]]) -> Model:
    """The model that `serialized` gave bytes and weights of, unchecked."""
    proto = _parse(content)

    def values(tensor: TensorProto) -> Lazy | Held:
        return Held(weights[tensor.name]) if tensor.data_location == TensorProto.EXTERNAL else Lazy(tensor, None)

    return Model.from_proto(proto, values=values)


def _read(file: Path) -> bytes:
    try:
        if file.is_dir():
            raise ModelError("is a folder, not an ONNX file")
        size = file.stat().st_size
        if size > PROTOBUF_LIMIT:
            raise ModelError("is larger than 2 GiB, which no ONNX file can be", hint="keep weights as external data")
        data = file.read_bytes()
    except FileNotFoundError as error:
        raise ModelError("no such file") from error
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if not data:
        raise ModelError("is empty")
    return data


def _parse(data: bytes) -> ModelProto:
    for magic, position, what, hint in _OTHERS:
        if data[position : position + len(magic)] == magic:
            raise ModelError(f"is {what}", hint=hint)
    try:
        proto = ModelProto()
        proto.ParseFromString(data)
        return proto
    except Exception as error:  # protobuf's DecodeError, whose home differs between its implementations
        raise ModelError("is not an ONNX model, or is truncated", hint="protobuf cannot parse it") from error


def _model(proto: ModelProto, base_dir: Path) -> Model:
    check_header(proto)
    check_text(proto)
    inline_functions(proto)
    opsets = check_header(proto)
    Check(opsets, base_dir).graph(proto.graph)
    model = Model.from_proto(proto, base_dir)
    for graph in model.graphs():
        graph.nodes[:] = topological(graph)
    check_structure(model)
    return model


def check_structure(model: Model) -> None:
    """Runs `onnx.checker` on the model without its weights.

    Raises:
        ModelError: what the checker found, in one line.
    """

    def stub(constant: object) -> TensorProto:
        tensor = TensorProto()
        describe(constant, tensor)
        tensor.dims[:] = [0]
        return tensor

    proto = model.to_proto(stub)
    for info in [*proto.graph.input, *proto.graph.output]:  # ONNX Runtime infers what is missing here
        kind = info.type.WhichOneof("value") or "tensor_type"
        if kind in ("tensor_type", "sparse_tensor_type"):
            tensor = getattr(info.type, kind)
            tensor.elem_type = tensor.elem_type or TensorProto.FLOAT
            tensor.shape.SetInParent()
    for node in walk(iter(proto.graph.node)):
        if node.domain == "" and node.op_type in RUNTIME_OPERATORS:
            node.domain = "com.microsoft"
    if all(opset.domain != "com.microsoft" for opset in proto.opset_import):
        proto.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    try:
        onnx.checker.check_model(proto)
    except onnx.checker.ValidationError as error:
        raise ModelError(*_translate(str(error))) from error


def _translate(message: str) -> tuple[str]:
    """The checker's message as one line, with the node that it is about."""
    what, _, context = message.partition("==> Context:")
    node = context.partition("Name:")[2].split("OpType:")[0].strip()
    line = " ".join(what.split())
    return (f"node {node!r}: {line}" if node else line,)
