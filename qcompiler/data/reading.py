"""Files and texts from outside are not trusted: whatever damaged bytes make a parser raise becomes one DataError."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from qcompiler.errors import DataError, QCompilerError


@contextmanager
def reading(where: str, hint: str = "") -> Iterator[None]:
    """Wrap calls of parsers in it, not rules of ours: zipfile, numpy, protobuf and Pillow document no closed list.

    Raises:
        DataError: in place of any exception except those of the compiler.
    """
    try:
        yield
    except QCompilerError:
        raise
    except (Exception, MemoryError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        said = " ".join(str(reason).split()).split(". ")[0]  # numpy goes on with advice to trust the file
        raise DataError(f"cannot be read: {said[:200]}", where=where, hint=hint) from error
