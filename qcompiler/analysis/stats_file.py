"""The file form of statistics.

An `.npz` (zip of `.npy`): a member `meta` (JSON in bytes) and the arrays of each statistic, packed by its kind. Members
are in tensor order, not compressed (deflate differs between builds of zlib), and carry no time, so equal statistics
give equal bytes on every machine. Reading trusts nothing: sizes are checked before memory is taken, nothing is
unpickled, and every array must make sense to its kind.
"""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from qcompiler._version import __version__
from qcompiler.analysis.kinds import Kind, Packed, kind
from qcompiler.analysis.stats import HINT, Stats, TensorStats
from qcompiler.analysis.whole_file import write_whole
from qcompiler.data.npy_stream import npz_members
from qcompiler.errors import DataError

SCHEMA = 1
_META = "meta"


def to_bytes(stats: Stats) -> bytes:
    """The file."""
    members: dict[str, np.ndarray[Any, Any]] = {}
    tensors: list[dict[str, Any]] = []
    for number, name in enumerate(sorted(stats.tensors)):
        tensor = stats.tensors[name]
        kinds = []
        for this, packed in sorted(tensor.observers.items(), key=lambda item: str(item[0])):
            kinds.append({"kind": this.name, "options": this.options(), "arrays": sorted(packed)})
            members |= {_member(number, this, key): packed[key] for key in sorted(packed)}
        tensors.append({"name": name, "shape": tensor.shape, "elements": tensor.elements, "observers": kinds})
    meta = {
        "schema": SCHEMA,
        "tool": f"qcompiler {__version__}",
        "model": stats.model,
        "samples": stats.samples,
        "tensors": tensors,
        "unseen": dict(stats.unseen),
    }
    text = json.dumps(meta, sort_keys=True, separators=(",", ":"))
    members = {_META: np.frombuffer(text.encode(), np.uint8), **members}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, values in members.items():
            little = np.asarray(values, values.dtype.newbyteorder("<"), order="C")
            content = io.BytesIO()
            np.lib.format.write_array(content, little, version=(1, 0), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0)), content.getvalue())
    return buffer.getvalue()


def write(stats: Stats, path: Path) -> None:
    """Writes the file, whole or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    write_whole(path, to_bytes(stats))


def read(path: Path, model: str | None = None) -> Stats:
    """Reads a file.

    Args:
        path: what `write` wrote.
        model: fingerprint of the model that the statistics are for; not checked if None.

    Raises:
        DataError: no such file, damaged, of another version, or of another model.
    """
    if not path.is_file():
        raise DataError("no such file", where=str(path))
    try:
        stats = _parse(path)
        if model is not None:
            stats.check(model)
    except DataError as error:
        raise DataError(error.what, where=error.where or str(path), hint=error.hint) from error
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, IndexError) as error:
        raise DataError("is damaged", where=str(path), hint=HINT) from error
    return stats


def _member(number: int, kind: Kind, key: str) -> str:
    return f"{number:05}.{kind}.{key}"


def _parse(path: Path) -> Stats:
    members = npz_members(path)
    if _META not in members:
        raise DataError("is no file of statistics", hint="qcompile calibrate writes them")
    meta = json.loads(members[_META].whole().tobytes())
    if meta["schema"] != SCHEMA:
        raise DataError(f"has schema {meta['schema']}, this version reads {SCHEMA}", hint=HINT)
    tensors: dict[str, TensorStats] = {}
    with zipfile.ZipFile(path) as archive:
        for number, entry in enumerate(meta["tensors"]):
            observers: dict[Kind, Packed] = {}
            for item in entry["observers"]:
                this = kind(item["kind"], item["options"])
                observers[this] = {key: members[_member(number, this, key)].whole(archive) for key in item["arrays"]}
                this.unpack(observers[this])
            shape = entry["shape"]
            dims = None if shape is None else tuple(None if dim is None else int(dim) for dim in shape)
            tensors[str(entry["name"])] = TensorStats(dims, int(entry["elements"]), observers)
    unseen = {str(name): str(why) for name, why in meta["unseen"].items()}
    return Stats(str(meta["model"]), int(meta["samples"]), tensors, unseen)
