"""Sample inputs and outputs as raw files, and the list of inputs that Qualcomm's tools read.

samples/0000/NAME.raw           what the model reads, little-endian
samples/0000/NAME.output.raw    what the QDQ model gives for it in ONNX Runtime
input_list.txt                  a line for each sample: NAME:=samples/0000/NAME.raw ...
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from qcompiler.backends.qnn.emulate import Values

LIST, FOLDER = "input_list.txt", "samples"


def write_samples(folder: Path, feeds: Sequence[Values], outputs: Sequence[Values]) -> None:
    """Writes the samples; nothing where there are none."""
    lines = []
    for number, (feed, wanted) in enumerate(zip(feeds, outputs, strict=True)):
        place = folder / FOLDER / f"{number:04}"
        place.mkdir(parents=True)
        entries = []
        for name, values in feed.items():
            raw(place / f"{plain(name)}.raw", values)
            entries.append(f"{name}:={FOLDER}/{place.name}/{plain(name)}.raw")
        for name, values in wanted.items():
            raw(place / f"{plain(name)}.output.raw", values)
        lines.append(" ".join(entries))
    if lines:
        (folder / LIST).write_text("\n".join(lines) + "\n", encoding="utf-8")


def raw(file: Path, values: np.typing.NDArray[np.generic]) -> None:
    """One array, little-endian, in C order."""
    file.write_bytes(np.ascontiguousarray(values.astype(values.dtype.newbyteorder("<"), copy=False)).tobytes())


def plain(name: str) -> str:
    """A tensor's name as a file's."""
    return re.sub(r"[^\w.-]", "_", name)
