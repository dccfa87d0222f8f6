"""Dataset files: every key against arithmetic done by hand, and every refusal."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from qcompiler.data import InputInfo, open_source
from qcompiler.errors import DataError, MissingExtraError

PIL = pytest.importorskip("PIL.Image")
X = InputInfo("pixels", np.dtype(np.float32), ("N", 3, "H", "W"))
LAST = InputInfo("pixels", np.dtype(np.float32), ("N", "H", "W", 3))
RNG = np.random.default_rng(3)


def image(path: Path, height: int = 6, width: int = 8, mode: str = "RGB") -> np.ndarray:
    """A random image as PNG; returns its pixels."""
    pixels = RNG.integers(0, 256, (height, width, 3) if mode == "RGB" else (height, width), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.fromarray(pixels).save(path)
    return pixels


def dataset(folder: Path, text: str) -> Path:
    path = folder / "dataset.toml"
    path.write_text('images = "photos"\n' + text)
    return path


def refusal(path: Path, *inputs: InputInfo) -> str:
    with pytest.raises(DataError) as caught:
        list(open_source(path, inputs or [X]))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_plain_pixels_in_order_of_path(tmp_path: Path) -> None:
    b, a = image(tmp_path / "photos" / "b.png"), image(tmp_path / "photos" / "sub" / "a.png", 4, 4)
    (tmp_path / "photos" / "notes.txt").write_text("left alone")
    source = open_source(dataset(tmp_path, ""), [X])
    assert (source.count, source.has_labels, source.description) == (2, False, "images of dataset.toml")
    first, second = source
    assert (first.name, second.name) == ("b.png", "sub/a.png")
    np.testing.assert_array_equal(first.feed["pixels"], b.transpose(2, 0, 1)[None])
    np.testing.assert_array_equal(second.feed["pixels"], a.transpose(2, 0, 1)[None])
    assert first.feed["pixels"].dtype == np.float32 and first.feed["pixels"].flags.c_contiguous


def test_values(tmp_path: Path) -> None:
    pixels = image(tmp_path / "photos" / "a.png").astype(np.float64)
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    (s,) = open_source(dataset(tmp_path, f'scale = "1/255"\nmean = {mean}\nstd = {std}\nlayout = "NHWC"'), [LAST])
    np.testing.assert_array_equal(s.feed["pixels"][0], np.float32((pixels / 255 - mean) / std))
    (s,) = open_source(dataset(tmp_path, 'channels = "BGR"\nmean = [104, 117, 123]'), [X])
    np.testing.assert_array_equal(s.feed["pixels"][0], (pixels[..., ::-1] - [104, 117, 123]).transpose(2, 0, 1))
    (s,) = open_source(dataset(tmp_path, "scale = 0.5\nmean = 1"), [X])
    np.testing.assert_array_equal(s.feed["pixels"][0], (pixels / 2 - 1).transpose(2, 0, 1))
    gray = InputInfo("pixels", np.dtype(np.uint8), (1, 1, 6, 8))
    (s,) = open_source(dataset(tmp_path, 'channels = "gray"\ninput = "pixels"'), [gray])
    luma = pixels @ [0.299, 0.587, 0.114]
    assert s.feed["pixels"].dtype == np.uint8 and np.abs(s.feed["pixels"][0, 0] - luma).max() <= 1


def test_resize_and_crop(tmp_path: Path) -> None:
    pixels = image(tmp_path / "photos" / "a.png", 60, 90)
    (s,) = open_source(dataset(tmp_path, "crop = [20, 31]"), [X])
    np.testing.assert_array_equal(s.feed["pixels"][0].transpose(1, 2, 0), pixels[20:40, 30:61])
    (s,) = open_source(dataset(tmp_path, "resize = 20"), [X])
    assert s.feed["pixels"].shape == (1, 3, 20, 30)
    np.testing.assert_array_equal(
        s.feed["pixels"][0].transpose(1, 2, 0), np.asarray(PIL.fromarray(pixels).resize((30, 20), 2))
    )
    (s,) = open_source(dataset(tmp_path, 'resize = [30, 45]\nfilter = "nearest"'), [X])
    np.testing.assert_array_equal(s.feed["pixels"][0].transpose(1, 2, 0), pixels[1::2, 1::2])
    (s,) = open_source(dataset(tmp_path, "resize = 32\ncrop = 28"), [X])
    assert s.feed["pixels"].shape == (1, 3, 28, 28)


def test_labels(tmp_path: Path) -> None:
    for name in ("b/0.png", "a/0.png", "a/1.png", "a/2.png"):
        image(tmp_path / "photos" / name)
    samples = list(open_source(dataset(tmp_path, 'labels = "folder"'), [X]))
    # In turn, so that the first samples hold every class.
    assert [(s.name, s.label) for s in samples] == [("a/0.png", 0), ("b/0.png", 1), ("a/1.png", 0), ("a/2.png", 0)]
    (tmp_path / "labels.csv").write_text("file,label\nb/0.png,11\na/2.png, 12\n\n")
    samples = list(open_source(dataset(tmp_path, 'labels = "labels.csv"'), [X]))
    assert [(s.name, s.label) for s in samples] == [("b/0.png", 11), ("a/2.png", 12)]
    samples = list(open_source(dataset(tmp_path, 'labels = "stem"'), [X]))
    assert [s.label for s in samples] == [0, 1, 2, 0]
    (tmp_path / "photos" / "a").rename(tmp_path / "photos" / "10")
    (tmp_path / "photos" / "b").rename(tmp_path / "photos" / "9")
    samples = list(open_source(dataset(tmp_path, 'labels = "folder"'), [X], limit=2))
    assert [(s.name, s.label) for s in samples] == [("10/0.png", 10), ("9/0.png", 9)]


def test_label_refusals(tmp_path: Path) -> None:
    image(tmp_path / "photos" / "a.png")
    path = dataset(tmp_path, 'labels = "labels.csv"')
    table = tmp_path / "labels.csv"
    assert refusal(path).startswith(f"{table}: cannot be read: No such file")
    for text, end in {
        "a.png,1\nb.png,2\n": f":2: there is no image 'b.png' in '{tmp_path / 'photos'}'",
        "a.png,1\na.png,2\n": ":2: 'a.png' is listed twice",
        "a.png,cat\n": ":1: the label is not an integer: 'cat'",
        "file,label\na.png\n": ":2: has 1 fields (lines of file,label are expected)",
        "file,label\n": ": lists no images (lines of file,label are expected)",
    }.items():
        table.write_text(text)
        assert refusal(path) == f"{table}{end}"
    assert refusal(dataset(tmp_path, 'labels = "folder"')).endswith("'a.png' is in no sub-folder")
    assert refusal(dataset(tmp_path, 'labels = "stem"')).endswith("the file name is not an integer: 'a'")


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("resise = 3", "'resise': unknown (known are images, input, resize, crop, filter, channels, layout, scale, "),
        ("resize = 0", "'resize' must be a size in pixels or [height, width]"),
        ("resize = [1, 2, 3]", "'resize' must be a size in pixels or [height, width]"),
        ("crop = true", "'crop' must be a size in pixels or [height, width]"),
        ('filter = "cubic"', "'filter' must be one of bilinear, nearest, bicubic, lanczos"),
        ('layout = "HWC"', "'layout' must be one of NCHW, NHWC"),
        ("channels = 3", "'channels' must be one of RGB, BGR, gray"),
        ("channels = []", "'channels' must be one of RGB, BGR, gray"),
        ('scale = "1/0"', "'scale' must be a number other than 0, or a fraction such as \"1/255\""),
        ("scale = nan", "'scale' must be a number other than 0, or a fraction such as \"1/255\""),
        ("mean = [1, 2]", "'mean' must be a number or 3 numbers, one per channel"),
        ("std = [1, 0, 1]", "'std' holds 0"),
        ('input = "x"', "the model has no input 'x' (it takes 'pixels')"),
        ("labels = 3", "'labels' must be text"),
        ("= 3", "cannot be read: Invalid statement (at line 2, column 1) (a dataset TOML is expected)"),
        ("crop = 7", "is 6 by 8 pixels, smaller than the crop 7 by 7 (resize first)"),
    ],
)
def test_refusals_of_the_file(tmp_path: Path, text: str, end: str) -> None:
    image(tmp_path / "photos" / "a.png")
    assert f": {end}" in refusal(dataset(tmp_path, text))


def test_refusals_of_places_and_models(tmp_path: Path) -> None:
    path = dataset(tmp_path, "")
    assert f"there is no folder '{tmp_path / 'photos'}'" in refusal(path)
    (tmp_path / "photos").mkdir()
    assert f"there are no images in '{tmp_path / 'photos'}'" in refusal(path)
    image(tmp_path / "photos" / "a.png")
    assert "images feed one input, but the model takes 'pixels', 'm'" in refusal(path, X, InputInfo("m", X.dtype, None))
    assert "takes uint8, so 'scale', 'mean' and 'std' do not apply" in refusal(
        dataset(tmp_path, "scale = 2"), InputInfo("pixels", np.dtype(np.uint8), None)
    )
    fixed = InputInfo("pixels", X.dtype, (1, 3, 224, 224))
    assert refusal(dataset(tmp_path, ""), fixed) == (
        "a.png: input 'pixels' takes shape (1, 3, 224, 224), but the data has (1, 3, 6, 8)"
    )
    assert "is a folder of images (write a dataset .toml" in refusal(tmp_path / "photos")
    (tmp_path / "dataset.toml").write_text("crop = 3")
    assert "'images' is missing" in refusal(tmp_path / "dataset.toml")


def test_refusals_of_images(tmp_path: Path) -> None:
    pixels = image(tmp_path / "photos" / "a.png", 30, 30)
    assert pixels.shape == (30, 30, 3)
    file = tmp_path / "photos" / "a.png"
    path, whole = dataset(tmp_path, ""), file.read_bytes()
    for length in (0, 20, len(whole) // 2):
        file.write_bytes(whole[:length])
        assert refusal(path).startswith(f"{file}: cannot be read: ")
    PIL.fromarray(np.zeros((4, 4), np.uint16)).save(file)
    assert "has more than 8 bits per channel" in refusal(path)
    PIL.fromarray(np.zeros((1, 3000, 3), np.uint8)).save(file)
    assert "is too narrow to be resized: 3000 by 1 pixels" in refusal(dataset(tmp_path, "resize = 224"))


@pytest.mark.zoo
def test_a_real_model_is_fed_as_its_own_script_feeds_it(zoo: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "imagenet.toml"
    info = InputInfo("input", np.dtype(np.float32), ("N", 3, 224, 224))
    photos = f'images = "{(zoo.DATA / "imagenet" / "evaluation").as_posix()}"\nlabels = "stem"\n'
    for name, keys in {
        "mobilenetv3_small": 'scale = "1/255"',
        "squeezenet10": 'channels = "BGR"\nmean = [104, 117, 123]',
    }.items():
        path.write_text(photos + keys)
        for sample, (feed, label) in zip(open_source(path, [info], limit=8), zoo.MODELS[name].samples(), strict=False):
            assert sample.label == label
            np.testing.assert_array_equal(sample.feed["input"], feed["input"])


def test_without_pillow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image(tmp_path / "photos" / "a.png")
    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(MissingExtraError) as caught:
        open_source(dataset(tmp_path, ""), [X])
    assert str(caught.value).endswith("reading images needs Pillow (pip install 'qcompiler[images]')")
