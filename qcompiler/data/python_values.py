"""Samples from Python: arrays by input name, a function that yields feeds, or a list of feeds.

A function (or anything that can be iterated more than once) gives one item per sample: a feed {input name: array},
(feed, label), or a `Sample`. It is called, or iterated, once per reading, so it must give the same samples each time.
A function on the command line is written `package.module:name`; the current folder can be imported from.
"""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from qcompiler.data.sample import Array, InputInfo, Label, Reader, Sample
from qcompiler.data.table import MemoryColumn, Table, as_label
from qcompiler.errors import DataError, QCompilerError

_GENERATOR_HINT = "a generator can be read only once: give the function that makes it"


def array_mapping(arrays: Mapping[str, object], inputs: Sequence[InputInfo]) -> Reader:
    """Arrays by input name, first axis = samples, optional `labels`: as one `.npz`, in memory."""
    where = "data"
    columns = {str(name): MemoryColumn(_array(value, f"{where}[{name!r}]")) for name, value in arrays.items()}
    table = Table(columns, inputs, where=where, name=where)
    return Reader(table.read, table.count, table.has_labels, "arrays in memory", table.given)


def imported(spec: str) -> object:
    """What `package.module:name` names, imported with the current folder first; DataError if that fails."""
    module_name, _, attributes = spec.partition(":")
    folder = str(Path.cwd())
    with _guarded(spec):
        importlib.invalidate_caches()
        # First for this import, so that the user's module wins; last afterwards, for imports inside the function, so
        # that no file of this folder hides a module which the compiler imports later.
        sys.path.insert(0, folder)
        try:
            value: object = importlib.import_module(module_name)
        finally:
            sys.path.remove(folder)
            if folder not in sys.path:
                sys.path.append(folder)
        for name in attributes.split("."):
            if not hasattr(value, name):
                raise DataError(f"{module_name!r} has no {name!r}", where=spec)
            value = getattr(value, name)
    return value


def python_values(values: object, name: str) -> Reader:
    """A function without arguments that gives feeds, or an iterable of feeds; samples are called `name[i]`.

    Raises:
        DataError: `values` is neither, can be read only once, raises, or yields something else than feeds.
    """
    if isinstance(values, Iterator):
        raise DataError("is a generator or an iterator", where=name, hint=_GENERATOR_HINT)
    if not callable(values) and not isinstance(values, Iterable):
        raise DataError(f"is {type(values).__name__}, not a function or a list of feeds", where=name)

    make: Callable[[], object] = values if callable(values) else lambda: values

    def read() -> Generator[Sample, None, None]:
        with _guarded(name):
            items = make()
            if not isinstance(items, Iterable) or isinstance(items, (str, Mapping)):
                raise DataError(
                    f"gave {type(items).__name__}", where=name, hint="yield one feed {input name: array} per sample"
                )
            stream = iter(items)
        index = 0
        while True:
            where = f"{name}[{index}]"
            with _guarded(where):
                try:
                    item = next(stream)
                except StopIteration:
                    return
            yield _sample(item, where)
            index += 1

    count = len(values) if isinstance(values, Sized) and not callable(values) else None
    return Reader(read, count, None, f"samples of {name}", volatile=True)


def _sample(item: object, where: str) -> Sample:
    if isinstance(item, Sample):
        where, item = item.name, (item.feed, item.label)
    feed, label = item if isinstance(item, tuple) and len(item) == 2 else (item, None)
    if not isinstance(feed, Mapping):
        raise DataError(
            f"is {type(item).__name__}, not a feed", where=where, hint="yield {input name: array} or (feed, label)"
        )
    arrays = {str(name): _array(value, f"{where}[{name!r}]") for name, value in feed.items()}
    return Sample(arrays, _label(label, where), where)


def _label(label: object, where: str) -> Label:
    return None if label is None else as_label(_array(label, f"{where} label"), where)


def _array(value: object, where: str) -> Array:
    with _guarded(where):
        array: Array = np.asarray(value)
    if array.dtype.hasobject and not all(isinstance(item, str) for item in array.flat):
        raise DataError(f"is {type(value).__name__}, not an array of numbers", where=where)
    return array


@contextmanager
def _guarded(where: str) -> Iterator[None]:
    """The user's code runs inside: whatever it raises becomes one line that names it and the line of its code."""
    try:
        yield
    except QCompilerError:
        raise
    except (Exception, SystemExit) as error:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__]
        ours = [frame for frame in frames if "importlib" not in frame.filename]
        line = f", line {ours[0].lineno} of {Path(ours[0].filename).name}" if ours else ""
        reason = f"{type(error).__name__}: {str(error)[:200]}".rstrip(": ")
        raise DataError(f"raised {reason}{line}", where=where) from error
