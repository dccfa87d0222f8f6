"""Measured times, kept per machine, so that a compile repeated on one machine decides alike and gives the same bytes.

What is measured decides what is shipped, and no measurement gives the same number twice. So times are filed under what
was timed: the bytes of the models, the session settings, the shapes of the feeds, ONNX Runtime's version and the CPU. A
second compile of the same inputs finds them and measures nothing (TensorRT's timing cache is the same idea). A cache
that cannot be read or written costs time, never a compile.

The folder is `$QCOMPILER_CACHE`, else `$XDG_CACHE_HOME/qcompiler`, else `~/.cache/qcompiler`; an empty
`$QCOMPILER_CACHE` turns it off.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from qcompiler.analysis.cpu import cpu_flags
from qcompiler.analysis.whole_file import write_whole
from qcompiler.errors import OutputError

Numbers = dict[str, Any]


@dataclass(frozen=True)
class TimingCache:
    """A folder of measurements.

    Attributes:
        folder: None remembers nothing.
    """

    folder: Path | None = None

    @staticmethod
    def default() -> TimingCache:
        """The cache of this user and machine."""
        given = os.environ.get("QCOMPILER_CACHE")
        if given is not None:
            return TimingCache(Path(given) if given else None)
        base = os.environ.get("XDG_CACHE_HOME")
        return TimingCache((Path(base) if base else Path.home() / ".cache") / "qcompiler")

    def get(self, key: Sequence[object], measure: Callable[[], Numbers]) -> Numbers:
        """What is filed under `key`, or what `measure` gives, which is then filed; plain JSON values either way."""
        if self.folder is None:
            return measure()
        path = self.folder / "timings" / f"{_digest(key)}.json"
        with contextlib.suppress(OSError, ValueError):
            found = json.loads(path.read_text(encoding="utf-8"))
            if isinstance(found, dict):
                return found
        numbers = measure()
        with contextlib.suppress(OSError, OutputError):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, json.dumps(numbers).encode())
        return numbers


def _digest(key: Sequence[object]) -> str:
    import onnxruntime

    parts = [onnxruntime.__version__, *cpu_flags(), os.cpu_count(), *key]
    return hashlib.sha256("\0".join(map(str, parts)).encode("utf-8", "surrogateescape")).hexdigest()


def shapes_of(feed: Mapping[str, npt.NDArray[Any]]) -> str:
    """The part of a key that stands for a feed: names, types and shapes."""
    return ";".join(f"{name}:{array.dtype}{list(array.shape)}" for name, array in sorted(feed.items()))
