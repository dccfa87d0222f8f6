"""Images of a dataset file as samples of batch one (see `dataset_toml` for the keys).

Decode -> RGB or gray -> resize -> centre crop -> channel order -> (pixel * scale - mean) / std -> layout. There are
256 values per channel, so the arithmetic is a table of 256 rows computed in float64 and rounded once to the input's
type. Sizes follow torchvision: the longer side is int(size * long / short), the crop starts at round(rest / 2).
Orientation tags are not applied, as in the usual training loaders.

Order: by the labels file, else by path. With labels = "folder" the images are taken in turn from each sub-folder, so
that the first N hold every class. Labels of sub-folders: their names if all are integers, else their places in sorted
order.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Generator, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from qcompiler.data.dataset_toml import ImageRecipe, dataset_toml
from qcompiler.data.reading import reading
from qcompiler.data.sample import Array, InputInfo, Reader, Sample
from qcompiler.errors import DataError, MissingExtraError

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
_INTEGER = re.compile(r"[+-]?\d{1,18}")


def image_folder(path: Path, inputs: Sequence[InputInfo]) -> Reader:
    """The samples of the dataset file `path`.

    Raises:
        DataError: the file (see `dataset_toml`), its labels, or an image that cannot be read.
        MissingExtraError: Pillow is not installed.
    """
    recipe = dataset_toml(path, inputs)
    info = inputs[0]
    if info.dtype.kind in "iu" and not recipe.raw:
        raise DataError(
            f"input {info.name!r} takes {info.dtype.name}, so 'scale', 'mean' and 'std' do not apply", where=str(path)
        )
    try:
        import PIL.Image  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            "reading images needs Pillow", where=str(path), hint="pip install 'qcompiler[images]'"
        ) from error
    items = _items(recipe)
    table = _table(recipe, info)

    def read(start: int = 0) -> Generator[Sample, None, None]:
        for file, label in items[start:]:
            inside = file.is_relative_to(recipe.images)
            name = file.relative_to(recipe.images).as_posix() if inside else file.name
            yield Sample({info.name: _pixels(file, recipe, table)}, label, name)

    return Reader(read, len(items), recipe.labels is not None, f"images of {path.name}", behind=read)


def _table(recipe: ImageRecipe, info: InputInfo) -> Array:
    """(256, channels): pixel to value."""
    dtype: npt.DTypeLike = np.uint8 if recipe.raw and info.dtype.kind in "iu" else info.dtype
    pixel = np.arange(256, dtype=np.float64)[:, None]
    table: Array = (pixel * recipe.scale - np.array(recipe.mean)) / np.array(recipe.std)
    return table.astype(dtype)


def _pixels(file: Path, recipe: ImageRecipe, table: Array) -> Array:
    from PIL import Image

    with reading(str(file)), Image.open(file) as opened:
        if opened.mode.startswith(("I", "F")):
            raise DataError(f"has more than 8 bits per channel (mode {opened.mode})", where=str(file))
        image = opened.convert("L" if recipe.channels == "gray" else "RGB")
        pixels = np.atleast_3d(np.asarray(_crop(_resize(image, recipe, file), recipe, file)))
    if recipe.channels == "BGR":
        pixels = pixels[..., ::-1]
    values: Array = table[pixels, np.arange(table.shape[1])][None]
    return values.transpose(0, 3, 1, 2) if recipe.layout == "NCHW" else values


def _resize(image: Image, recipe: ImageRecipe, file: Path) -> Image:
    from PIL import Image

    if recipe.resize is None:
        return image
    width, height = image.size
    if isinstance(recipe.resize, int):
        short, long = recipe.resize, int(recipe.resize * max(width, height) / min(width, height))
        size = (short, long) if width <= height else (long, short)
    else:
        size = (recipe.resize[1], recipe.resize[0])
    if max(size) >= 1 << 16:
        raise DataError(f"is too narrow to be resized: {width} by {height} pixels", where=str(file))
    return image if size == image.size else image.resize(size, Image.Resampling[recipe.filter.upper()])


def _crop(image: Image, recipe: ImageRecipe, file: Path) -> Image:
    if recipe.crop is None:
        return image
    height, width = recipe.crop
    if image.width < width or image.height < height:
        raise DataError(
            f"is {image.height} by {image.width} pixels, smaller than the crop {height} by {width}",
            where=str(file),
            hint="resize first",
        )
    left, top = round((image.width - width) / 2), round((image.height - height) / 2)
    return image.crop((left, top, left + width, top + height))


def _items(recipe: ImageRecipe) -> list[tuple[Path, int | None]]:
    """Images with their labels, in order."""
    if recipe.labels not in (None, "folder", "stem"):
        return list(_listed(recipe, recipe.file.parent / str(recipe.labels)))
    found = [
        path
        for path in recipe.images.rglob("*")
        if path.suffix.lower() in SUFFIXES and path.name[0] != "." and path.is_file()
    ]
    files = sorted(found, key=lambda path: path.relative_to(recipe.images).as_posix())
    if not files:
        raise DataError(f"there are no images in {str(recipe.images)!r}", where=str(recipe.file))
    if recipe.labels == "stem":
        return [(file, _integer(file.stem, str(file), "labels = 'stem': the file name")) for file in files]
    if recipe.labels == "folder":
        return _in_turn(recipe, files)
    return [(file, None) for file in files]


def _in_turn(recipe: ImageRecipe, files: Iterable[Path]) -> list[tuple[Path, int | None]]:
    folders: dict[str, list[Path]] = {}
    for file in files:
        parts = file.relative_to(recipe.images).parts
        if len(parts) < 2:
            raise DataError(f"labels = 'folder', but {file.name!r} is in no sub-folder", where=str(recipe.file))
        folders.setdefault(parts[0], []).append(file)
    names = sorted(folders)
    numbers = all(_INTEGER.fullmatch(name) for name in names)
    turns = [(turn, name, file) for name in names for turn, file in enumerate(folders[name])]
    return [(file, int(name) if numbers else names.index(name)) for _, name, file in sorted(turns)]


def _listed(recipe: ImageRecipe, path: Path) -> Generator[tuple[Path, int], None, None]:
    hint = "lines of file,label are expected"
    with reading(str(path), hint), path.open(newline="", encoding="utf-8-sig") as stream:
        rows = [(number, row) for number, row in enumerate(csv.reader(stream), start=1) if row]
    seen: set[str] = set()
    for position, (number, row) in enumerate(rows):
        where = f"{path}:{number}"
        if len(row) != 2:
            raise DataError(f"has {len(row)} fields", where=where, hint=hint)
        name, label = row[0].strip(), row[1].strip()
        if position == 0 and not _INTEGER.fullmatch(label) and not (recipe.images / name).is_file():
            continue  # a line of column names
        if name in seen:
            raise DataError(f"{name!r} is listed twice", where=where)
        if not (recipe.images / name).is_file():
            raise DataError(f"there is no image {name!r} in {str(recipe.images)!r}", where=where)
        seen.add(name)
        yield recipe.images / name, _integer(label, where, "the label")
    if not seen:
        raise DataError("lists no images", where=str(path), hint=hint)


def _integer(text: str, where: str, what: str) -> int:
    if not _INTEGER.fullmatch(text):
        raise DataError(f"{what} is not an integer: {text!r}", where=where)
    return int(text)
