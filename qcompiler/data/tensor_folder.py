"""ONNX test data: folders `test_data_set_0`, `test_data_set_1`, ... that hold `input_0.pb`, `input_1.pb`, ...

Each file is one serialized TensorProto (ONNX repository, "ONNX backend test"). Each folder is one sample. The tensors
are taken by the names inside the files if those are the names of the model's inputs, and else by number, in the order
of the model's inputs. `output_*.pb` are not read: they are results, not labels.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from pathlib import Path

import numpy as np

from qcompiler.data.check import names_text
from qcompiler.data.reading import reading
from qcompiler.data.sample import Array, InputInfo, Reader, Sample
from qcompiler.errors import DataError

_INPUT = re.compile(r"input_(\d+)\.pb")
_FOLDER = re.compile(r"test_data_set_(\d+)")


def tensor_folders(folder: Path) -> list[Path]:
    """`folder` itself if it holds `input_N.pb`, else its `test_data_set_N` folders by number; empty if neither."""
    if _numbered(folder, _INPUT):
        return [folder]
    return [sub for _, sub in _numbered(folder, _FOLDER) if sub.is_dir()]


def _numbered(folder: Path, pattern: re.Pattern[str]) -> list[tuple[int, Path]]:
    matches = ((pattern.fullmatch(entry.name), entry) for entry in folder.iterdir())
    return sorted((int(match[1]), entry) for match, entry in matches if match)


def _tensor(path: Path) -> tuple[str, Array]:
    from onnx import TensorProto, numpy_helper

    with reading(str(path), "a serialized TensorProto is expected"):
        proto = TensorProto.FromString(path.read_bytes())
        if proto.data_location == TensorProto.EXTERNAL or proto.external_data:
            raise DataError("keeps its values in another file", where=str(path), hint="save it with its values inside")
        if proto.data_type == TensorProto.UNDEFINED or any(dim < 0 for dim in proto.dims):
            raise DataError("is not a tensor", where=str(path), hint="a serialized TensorProto is expected")
        array = numpy_helper.to_array(proto)
    if proto.data_type == TensorProto.STRING:
        with reading(str(path)):
            flat = [item.decode() if isinstance(item, bytes) else str(item) for item in array.flat]
        array = np.array(flat, object).reshape(array.shape)
    return proto.name, array


def _sample(folder: Path, inputs: Sequence[InputInfo]) -> Sample:
    files = _numbered(folder, _INPUT)
    if [number for number, _ in files] != list(range(len(inputs))):
        raise DataError(
            f"holds {names_text(path.name for _, path in files) or 'no input_0.pb'}",
            where=str(folder),
            hint=f"the model takes {len(inputs)}: {names_text(info.name for info in inputs)}",
        )
    tensors = [_tensor(path) for _, path in files]
    names = [info.name for info in inputs]
    if sorted(name for name, _ in tensors) == sorted(names):
        return Sample(dict(tensors), None, folder.name)
    return Sample(dict(zip(names, (array for _, array in tensors), strict=True)), None, folder.name)


def tensor_folder(folder: Path, folders: Sequence[Path], inputs: Sequence[InputInfo]) -> Reader:
    """One sample for each of `folders`; DataError if a file is missing, damaged or does not fit the model."""

    def read(start: int = 0) -> Generator[Sample, None, None]:
        return (_sample(sub, inputs) for sub in folders[start:])

    return Reader(read, len(folders), False, f"ONNX test data in {folder.resolve().name}", behind=read)
