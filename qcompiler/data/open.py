"""From what the user wrote after `--data`, or handed to the API, to a Source.

calib.npz                        npz_file
folder of .npz files             npz_folder
folder of test_data_set_*        tensor_folder (or one such folder)
dataset.toml                     image_folder
package.module:function          python_values
dict of arrays                   python_values (API)
function, list of feeds          python_values (API)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from qcompiler.data.image_folder import SUFFIXES, image_folder
from qcompiler.data.npz_file import npz_file
from qcompiler.data.npz_folder import npz_folder
from qcompiler.data.python_values import array_mapping, imported, python_values
from qcompiler.data.reading import reading
from qcompiler.data.sample import InputInfo, Reader, Source
from qcompiler.data.source import CheckedSource, Reopening
from qcompiler.data.tensor_folder import tensor_folder, tensor_folders
from qcompiler.errors import DataError, UsageError

_FUNCTION = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
_FORMS = "data is an .npz, a folder of .npz files or test_data_set_*, a dataset .toml, or package.module:function"


Data: TypeAlias = str | Path | Mapping[str, object] | Iterable[object] | Callable[[], Iterable[object]]
"""What `open_source` takes."""


def open_source(
    spec: Data,
    inputs: Sequence[InputInfo],
    *,
    limit: int | None = None,
) -> Source:
    """The data that `spec` names, ready to be read any number of times.

    Whatever is known without reading values (names, types, shapes, counts) is checked now, every sample when it is
    read; of a program's samples the first is made now.

    Args:
        spec: one of the forms above.
        inputs: all inputs of the model that must be fed, in the model's order.
        limit: takes only the first `limit` samples.

    Raises:
        UsageError: `limit` is under 1, or the model takes no inputs.
        DataError: the data does not exist, is damaged, empty, or does not fit the model.
        MissingExtraError: images without Pillow.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"the number of samples must be at least 1, not {limit}")
    if not inputs:
        raise UsageError("the model takes no inputs, so no data can be fed to it")
    name = str(spec) if isinstance(spec, (str, Path)) else str(getattr(spec, "__name__", "data"))
    again = Reopening(_absolute(name), tuple(inputs), limit) if isinstance(spec, (str, Path)) else None
    return CheckedSource(_reader(spec, name, inputs), inputs, limit=limit, where=name, again=again)


def _absolute(name: str) -> str:
    """The path of a file or folder from the root; the name of a function as it is."""
    path = Path(name)
    return str(path.resolve()) if path.exists() else name


def _reader(spec: object, name: str, inputs: Sequence[InputInfo]) -> Reader:
    if isinstance(spec, (str, Path)):
        path = Path(spec)
        with reading(str(spec)):
            exists, is_folder = path.exists(), path.is_dir()
        if is_folder:
            return _folder(path, inputs)
        if exists:
            return _file(path, inputs)
        if isinstance(spec, str) and _FUNCTION.fullmatch(spec) and path.suffix not in (".npz", ".toml"):
            return python_values(imported(spec), spec)
        raise DataError("there is no such file or folder", where=str(spec), hint=_FORMS)
    if isinstance(spec, Mapping):
        return array_mapping(spec, inputs)
    return python_values(spec, name)


def _file(path: Path, inputs: Sequence[InputInfo]) -> Reader:
    if path.suffix.lower() == ".npz":
        return npz_file(path, inputs)
    if path.suffix.lower() == ".toml":
        return image_folder(path, inputs)
    what = f"a file that ends in {path.suffix!r}" if path.suffix else "a file without an ending"
    raise DataError(f"{what} is not known as data", where=str(path), hint=_FORMS)


def _folder(path: Path, inputs: Sequence[InputInfo]) -> Reader:
    with reading(str(path)):
        entries = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
    if folders := tensor_folders(path):
        return tensor_folder(path, folders, inputs)
    if files := [entry for entry in entries if entry.suffix.lower() == ".npz" and entry.is_file()]:
        return npz_folder(path, files, inputs)
    if any(entry.suffix.lower() in SUFFIXES for entry in entries):
        raise DataError(
            "is a folder of images", where=str(path), hint="write a dataset .toml that says how they are prepared"
        )
    raise DataError("holds no .npz files and no test_data_set_* folders", where=str(path), hint=_FORMS)
