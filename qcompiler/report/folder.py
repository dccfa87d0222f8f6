"""The output folder: appears whole or not at all.

Everything is written to a hidden folder beside the wanted one, which is then renamed. A folder that is already there is
replaced only if it is empty or was written by qcompile (it holds a report.json). The hidden folder is locked as long as
it is written to: one that nobody holds is what a killed process left, and the next compile to that place removes it.
"""

from __future__ import annotations

import glob
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from qcompiler.analysis import Stats
from qcompiler.errors import DataError, OutputError
from qcompiler.report.record import Artifact

REPORT = "report.json"


@contextmanager
def output_folder(path: Path) -> Iterator[Path]:
    """A folder to write to; it becomes `path` if the block ends without an exception, else it vanishes.

    Raises:
        OutputError: the place cannot be written, or `path` holds something that is not ours.
    """
    check_free(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _alone(path.parent):
            for left in path.parent.glob(f"{glob.escape(_hidden(path))}*"):
                if left.is_dir() and not left.is_symlink() and (free := _locked(left)) is not None:
                    shutil.rmtree(left, ignore_errors=True)
                    os.close(free)
            work = Path(tempfile.mkdtemp(prefix=_hidden(path), dir=path.parent))
            lock = _locked(work)
    except OSError as error:
        raise OutputError(f"cannot be written: {error.strerror}", where=str(path)) from error
    try:
        yield work
        _replace(path, work)
    except OSError as error:
        raise OutputError(f"cannot be written: {error.strerror or error}", where=str(path)) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def _hidden(path: Path) -> str:
    """What the names of folders that are written in place of `path` begin with."""
    return f".{path.name}-qcompile-"


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """No other process makes or removes hidden folders in `folder` meanwhile."""
    handle = _locked(folder, wait=True)
    try:
        yield
    finally:
        if handle is not None:
            os.close(handle)


def _locked(folder: Path, *, wait: bool = False) -> int | None:
    """A descriptor that holds a folder as long as it is open and its process lives; None where another has it."""
    try:
        import fcntl
    except ImportError:  # not a POSIX system: nothing is locked, and nothing that was left is removed
        return None
    handle = -1
    try:
        handle = os.open(folder, os.O_RDONLY)
        fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        if handle >= 0:
            os.close(handle)
        return None
    return handle


@contextmanager
def work_folder(path: Path | None) -> Iterator[Path]:
    """`output_folder(path)`; where nothing is to be left, a folder that vanishes."""
    if path is None:
        with tempfile.TemporaryDirectory(prefix="qcompiler-") as work:
            yield Path(work)
    else:
        with output_folder(path) as work:
            yield work


def clear(folder: Path) -> None:
    """Removes what an attempt left in a work folder."""
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def check_free(path: Path) -> None:
    """Makes sure that `path` may become an output folder.

    Raises:
        OutputError: it is a file, or a folder with other things in it.
    """
    try:
        if path.exists() and not path.is_dir():
            raise OutputError("is a file, not a folder", where=str(path), hint="choose another -o")
        if path.is_dir() and any(path.iterdir()) and not (path / REPORT).is_file():
            hint = "choose another -o, or empty it"
            raise OutputError("holds files that qcompile did not write", where=str(path), hint=hint)
    except OSError as error:
        raise OutputError(f"cannot be read: {error.strerror}", where=str(path)) from error


def check_stats_file(path: Path) -> None:
    """Makes sure, before the work, that statistics may be written to `path`.

    Raises:
        OutputError: it is a folder or something other than statistics, or there is no folder to write it to.
    """
    hint = "choose another -o"
    try:
        if path.is_dir():
            raise OutputError("is a folder, not a file", where=str(path), hint=hint)
        if path.exists():
            Stats.load(path)
        elif not path.parent.is_dir():
            raise OutputError("there is no such folder", where=str(path.parent), hint=hint)
        if not os.access(path.parent, os.W_OK):
            raise OutputError("cannot be written: the folder is read-only", where=str(path), hint=hint)
    except DataError as error:
        raise OutputError("holds something that qcompile did not write", where=str(path), hint=hint) from error
    except OSError as error:
        raise OutputError(f"cannot be read: {error.strerror}", where=str(path)) from error


def _replace(path: Path, work: Path) -> None:
    work.chmod(0o755)
    if not path.exists():
        work.rename(path)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{path.name}-old-", dir=path.parent))
    try:
        path.rename(old / "old")
        work.rename(path)
    finally:
        shutil.rmtree(old, ignore_errors=True)


def artifacts(folder: Path) -> tuple[Artifact, ...]:
    """Every file of a folder but the report, with size and sha256, in order of path."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != REPORT)
    return tuple(Artifact(p.relative_to(folder).as_posix(), p.stat().st_size, sha256(p)) for p in files)


def sha256(path: Path) -> str:
    """Hex digest of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
