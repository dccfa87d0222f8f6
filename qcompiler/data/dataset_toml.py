"""The dataset file: a TOML table that says how a folder of images becomes samples.

    images   = "photos"           folder, relative to this file; searched with its sub-folders
    input    = "pixels"           name of the model's input; may be left out where the model has one
    resize   = 256                shorter side, aspect kept; or [height, width] exactly. Left out: not resized
    crop     = 224                centre square; or [height, width]. Left out: not cropped
    filter   = "bilinear"         nearest, bilinear (default), bicubic, lanczos
    channels = "RGB"              RGB (default), BGR, gray
    layout   = "NCHW"             NCHW (default), NHWC
    scale    = "1/255"            number, or a fraction as text (default 1)
    mean     = [0.485, ...]       in scaled units, in the order of `channels`; one number or one per channel (default 0)
    std      = [0.229, ...]       likewise (default 1)
    labels   = "labels.csv"       lines of `file,label`, file relative to `images`; only these images are taken, in this
                                  order. Or "folder": the name of the sub-folder; or "stem": the name of the file

    value = (pixel * scale - mean) / std, pixel in 0..255

Unknown keys are errors. This module reads and checks the file; `image_folder` reads the images.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from qcompiler.data.check import names_text
from qcompiler.data.reading import reading
from qcompiler.data.sample import InputInfo
from qcompiler.errors import DataError

FILTERS = ("nearest", "bilinear", "bicubic", "lanczos")
CHANNELS = {"RGB": 3, "BGR": 3, "gray": 1}
LAYOUTS = ("NCHW", "NHWC")
_KEYS = ("images", "input", "resize", "crop", "filter", "channels", "layout", "scale", "mean", "std", "labels")


@dataclass(frozen=True)
class ImageRecipe:
    """A dataset file, checked. `mean` and `std` have one number per channel; sizes are (height, width)."""

    file: Path
    images: Path
    input: str
    resize: int | tuple[int, int] | None
    crop: tuple[int, int] | None
    filter: str
    channels: str
    layout: str
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    labels: str | None

    @property
    def raw(self) -> bool:
        """Whether pixels are fed as they are, 0..255."""
        return self.scale == 1 and not any(self.mean) and all(value == 1 for value in self.std)


def dataset_toml(path: Path, inputs: Sequence[InputInfo]) -> ImageRecipe:
    """Reads `path`.

    Raises:
        DataError: not TOML, an unknown or missing key, a value of the wrong kind, a folder that does not exist, or a
            model that takes more than one input.
    """
    where = str(path)
    with reading(where, "a dataset TOML is expected"):
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    if unknown := [key for key in table if key not in _KEYS]:
        raise DataError(f"{names_text(unknown)}: unknown", where=where, hint=f"known are {', '.join(_KEYS)}")
    if "images" not in table:
        raise DataError("'images' is missing", where=where, hint="it names the folder of images")
    images = path.parent / _text(table, "images", "", where)
    if not images.is_dir():
        raise DataError(f"there is no folder {str(images)!r}", where=where, hint="'images' is relative to the file")
    if len(inputs) != 1:
        raise DataError(
            f"images feed one input, but the model takes {names_text(info.name for info in inputs)}",
            where=where,
            hint="give an .npz or a function",
        )
    name = _text(table, "input", inputs[0].name, where)
    if name != inputs[0].name:
        raise DataError(f"the model has no input {name!r}", where=where, hint=f"it takes {inputs[0].name!r}")
    channels = _choice(table, "channels", tuple(CHANNELS), where)
    std = _per_channel(table, "std", 1.0, CHANNELS[channels], where)
    if 0.0 in std:
        raise DataError("'std' holds 0", where=where)
    return ImageRecipe(
        file=path,
        images=images,
        input=name,
        resize=_resize(table, where),
        crop=_pair(table["crop"], "crop", where) if "crop" in table else None,
        filter=_choice(table, "filter", ("bilinear", *FILTERS), where),
        channels=channels,
        layout=_choice(table, "layout", LAYOUTS, where),
        scale=_scale(table, where),
        mean=_per_channel(table, "mean", 0.0, CHANNELS[channels], where),
        std=std,
        labels=_text(table, "labels", "", where) or None,
    )


def _wrong(key: str, expected: str, where: str) -> DataError:
    return DataError(f"{key!r} must be {expected}", where=where)


def _text(table: dict[str, Any], key: str, default: str, where: str) -> str:
    value = table.get(key, default)
    if not isinstance(value, str) or (key in table and not value):
        raise _wrong(key, "text", where)
    return value


def _choice(table: dict[str, Any], key: str, allowed: tuple[str, ...], where: str) -> str:
    """One of `allowed`; the first is the default."""
    value = table.get(key, allowed[0])
    if value not in allowed:
        raise _wrong(key, f"one of {', '.join(dict.fromkeys(allowed))}", where)
    return str(value)


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 16


def _pair(value: Any, key: str, where: str) -> tuple[int, int]:
    pair = value if isinstance(value, list) else [value, value]
    if len(pair) != 2 or not all(_is_size(size) for size in pair):
        raise _wrong(key, "a size in pixels or [height, width]", where)
    return pair[0], pair[1]


def _resize(table: dict[str, Any], where: str) -> int | tuple[int, int] | None:
    if "resize" not in table:
        return None
    pair = _pair(table["resize"], "resize", where)
    return pair if isinstance(table["resize"], list) else pair[0]


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _scale(table: dict[str, Any], where: str) -> float:
    value = table.get("scale", 1.0)
    if isinstance(value, str):
        try:
            value = float(Fraction(value))
        except (ValueError, ZeroDivisionError, OverflowError):
            value = None
    if not _is_number(value) or not value:
        raise _wrong("scale", 'a number other than 0, or a fraction such as "1/255"', where)
    return float(value)


def _per_channel(table: dict[str, Any], key: str, default: float, channels: int, where: str) -> tuple[float, ...]:
    value = table.get(key, default)
    values = value if isinstance(value, list) else [value] * channels
    if len(values) != channels or not all(_is_number(item) for item in values):
        raise _wrong(key, f"a number or {channels} numbers, one per channel", where)
    return tuple(float(item) for item in values)
