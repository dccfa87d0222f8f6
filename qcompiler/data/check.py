"""Whether a feed fits the model: names, types, shapes, values.

Types are converted where no meaning can be lost, and nowhere else:

    same type                  taken (any byte order)
    float   -> float           rounded to nearest; a value that becomes infinite is an error
    integer -> integer         every value must fit, so the conversion is exact
    anything else              an error. Integer to float above all: pixels 0..255 fed to a model that was trained on
                               normalised floats calibrate it for data that it never sees

Shapes: the rank and the fixed sizes must agree, and one symbolic size has one value within a sample. No size is 0.
Floats must be finite: one infinity makes every range infinite.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from qcompiler.data.implied import completed, missing
from qcompiler.data.reading import reading
from qcompiler.data.sample import Array, InputInfo
from qcompiler.errors import DataError


def shape_text(shape: Sequence[int | str | None] | None) -> str:
    """`(N, 3, ?, 224)`; a symbolic size by its name, an unknown one as `?`."""
    if shape is None:
        return "(unknown rank)"
    dims = ["?" if dim is None else str(dim) for dim in shape]
    return f"({', '.join(dims)}{',' if len(dims) == 1 else ''})"


def type_text(dtype: np.dtype[Any]) -> str:
    """`float32`; every kind of text is `text`."""
    return "text" if _kind(dtype) == "text" else dtype.name


def names_text(names: Iterable[str]) -> str:
    """`'a', 'b'`, at most twelve of them."""
    listed = [repr(name) for name in names]
    return ", ".join(listed[:12]) + (f" and {len(listed) - 12} more" if len(listed) > 12 else "")


def check_names(given: Iterable[str], inputs: Sequence[InputInfo], where: str) -> None:
    """DataError unless `given` are the inputs, but for those that follow; the message lists the model's inputs."""
    wanted = {info.name: None for info in inputs}
    names = list(given)
    takes = f"the model takes {names_text(wanted)}"
    if unknown := [name for name in names if name not in wanted]:
        raise DataError(f"{names_text(unknown)}: no such input in the model", where=where, hint=takes)
    follow = missing(names, inputs) if names else {}
    if lacking := [name for name in wanted if name not in names and name not in follow]:
        raise DataError(f"nothing is given for input {names_text(lacking)}", where=where, hint=takes)


def _kind(dtype: np.dtype[Any]) -> str:
    """float, integer, bool, text or other; the small types of ml_dtypes have numpy kind V and are told by name."""
    if dtype.kind == "b":
        return "bool"
    if dtype.kind in "iu" or (dtype.kind == "V" and dtype.name.startswith(("int", "uint"))):
        return "integer"
    if dtype.kind == "f" or (dtype.kind == "V" and dtype.name.startswith(("float", "bfloat"))):
        return "float"
    return "text" if dtype.kind in "OUT" else "other"


def check_type(dtype: np.dtype[Any], info: InputInfo, where: str) -> None:
    """DataError unless arrays of `dtype` can be converted to the input's type; values are looked at by `convert`."""
    got, want = _kind(dtype), _kind(info.dtype)
    if got == want and (got in ("float", "integer", "text", "bool") or dtype == info.dtype):
        return
    hint = ""
    if want == "float" and got in ("integer", "bool"):
        hint = "convert and normalise it as the model's training did"
    raise DataError(
        f"input {info.name!r} takes {type_text(info.dtype)}, but the data is {type_text(dtype)}", where=where, hint=hint
    )


def empty_cache(shape: tuple[int, ...], info: InputInfo) -> bool:
    """Whether these are the keys or values of no tokens yet: rank 3 or more, nothing along a dynamic axis behind 0."""
    dims = info.shape or ()
    if not 3 <= len(shape) == len(dims):
        return False
    return all(
        got or (axis and not isinstance(want, int)) for axis, (got, want) in enumerate(zip(shape, dims, strict=True))
    )


def check_shape(shape: tuple[int, ...], info: InputInfo, where: str, symbols: dict[str, tuple[int, str]]) -> None:
    """DataError unless `shape` fits; `symbols` collects {symbolic size: (value, input that set it)} of one sample."""
    if 0 in shape and not empty_cache(shape, info):
        raise DataError(f"input {info.name!r} is empty: its shape is {shape_text(shape)}", where=where)
    if info.shape is None:
        return
    if len(shape) != len(info.shape) or any(
        isinstance(want, int) and got != want for got, want in zip(shape, info.shape, strict=True)
    ):
        raise DataError(
            f"input {info.name!r} takes shape {shape_text(info.shape)}, but the data has {shape_text(shape)}",
            where=where,
        )
    for got, want in zip(shape, info.shape, strict=True):
        if isinstance(want, str) and want:
            value, setter = symbols.setdefault(want, (got, info.name))
            if value != got:
                raise DataError(
                    f"size {want!r} is {value} in input {setter!r} and {got} in input {info.name!r}", where=where
                )


def _check_finite(array: Array, info: InputInfo, where: str) -> None:
    finite = np.isfinite(array if array.dtype.kind == "f" else array.astype(np.float32))
    if not finite.all():
        first = tuple(int(i) for i in np.argwhere(~finite)[0])
        bad = array[first]
        hint = "masks need a large finite number in place of infinity" if np.isinf(np.float32(bad)) else ""
        raise DataError(f"input {info.name!r} holds {bad} at {list(first)}", where=where, hint=hint)


def _limits(dtype: np.dtype[Any]) -> tuple[int, int]:
    """Smallest and largest value of an integer type, by its name: numpy's iinfo does not know those of ml_dtypes."""
    bits = int(dtype.name.lstrip("uint"))
    return (0, 2**bits - 1) if dtype.name[0] == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def convert(array: Array, info: InputInfo, where: str) -> Array:
    """`array` in C order, native byte order and the input's type, by the rules of this module."""
    check_type(array.dtype, info, where)
    kind = _kind(info.dtype)
    if kind == "text":
        with reading(where):  # a damaged file can hold code points that do not exist
            text = np.asarray(array, object, order="C")
        if not all(isinstance(item, str) for item in text.flat):
            raise DataError(f"input {info.name!r} takes text, but the data holds other objects", where=where)
        return text
    if kind == "float":
        _check_finite(array, info, where)
    if array.dtype == info.dtype:
        return np.asarray(array, info.dtype, order="C")
    if kind == "integer":
        low, high = _limits(info.dtype)
        for value in (int(array.min()), int(array.max())):
            if not low <= value <= high:
                raise DataError(
                    f"input {info.name!r} takes {info.dtype.name}, which cannot hold the value {value}", where=where
                )
    with np.errstate(over="ignore"):
        result = np.asarray(array.astype(info.dtype), order="C")
    if kind == "float" and not np.isfinite(result if result.dtype.kind == "f" else result.astype(np.float32)).all():
        raise DataError(f"input {info.name!r} holds values too large for {info.dtype.name}", where=where)
    return result


def check_feed(feed: Mapping[str, Array], inputs: Sequence[InputInfo], where: str) -> dict[str, Array]:
    """The feed, completed and converted, in the model's order of inputs; DataError naming `where` and the input."""
    check_names(feed, inputs, where)
    symbols: dict[str, tuple[int, str]] = {}
    result: dict[str, Array] = {}
    whole = completed(feed, inputs)
    for info in inputs:
        if info.name not in whole:
            raise DataError(f"nothing is given for input {info.name!r}, and nothing else tells it", where=where)
        array = whole[info.name]
        check_shape(array.shape, info, where, symbols)
        result[info.name] = convert(array, info, where)
    return result
