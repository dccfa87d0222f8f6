"""`calib.npz`: one archive, arrays keyed by input name, first axis = samples (see `table`), optional `labels`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from qcompiler.data.npy_stream import npz_members
from qcompiler.data.sample import InputInfo, Reader
from qcompiler.data.table import Table


def npz_file(path: Path, inputs: Sequence[InputInfo]) -> Reader:
    """The samples of one `.npz`, streamed; DataError if it is damaged or does not fit the model."""
    table = Table(npz_members(path), inputs, where=str(path), name=path.name)
    return Reader(table.read, table.count, table.has_labels, f"npz file {path.name}", table.given)
