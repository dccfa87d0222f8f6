"""Files that appear whole or not at all: written beside their place, then renamed."""

from __future__ import annotations

import os
from pathlib import Path

from qcompiler.errors import OutputError


def write_whole(path: Path, content: bytes) -> None:
    """Puts a file in place of an earlier one.

    Raises:
        OutputError: it cannot be written.
    """
    work = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        try:
            work.write_bytes(content)
            work.replace(path)
        finally:
            work.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"cannot be written: {error.strerror or error}", where=str(path)) from error
