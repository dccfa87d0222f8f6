"""A folder of `.npz`: one sample a file as it is, or many."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qcompiler.data import InputInfo, open_source
from qcompiler.errors import DataError

X = InputInfo("x", np.dtype(np.float32), ("N", "T", 2))


def refusal(folder: Path, *inputs: InputInfo) -> str:
    with pytest.raises(DataError) as caught:
        list(open_source(folder, inputs))
    return str(caught.value)


def ramp(*shape: int) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def test_each_file_is_one_sample_and_shapes_vary(tmp_path: Path) -> None:
    folder = tmp_path / "calib"
    folder.mkdir()
    np.savez(folder / "b.npz", x=ramp(1, 3, 2), label=7)
    np.savez_compressed(folder / "a.npz", x=ramp(2, 5, 2), label=np.array([1, 2]))
    np.savez(folder / ".hidden.npz", y=1)
    (folder / "notes.txt").write_text("left alone")
    source = open_source(folder, [X])
    assert (source.count, source.has_labels, source.description) == (2, True, "folder of npz files calib")
    a, b = source
    assert (a.name, b.name) == ("a.npz", "b.npz")
    np.testing.assert_array_equal(a.feed["x"], ramp(2, 5, 2))
    np.testing.assert_array_equal(b.feed["x"], ramp(1, 3, 2))
    assert np.asarray(a.label).tolist() == [1, 2] and b.label == 7
    assert [s.name for s in open_source(folder, [X], limit=1)] == ["a.npz"]


def test_one_axis_more_in_every_array_means_many_samples(tmp_path: Path) -> None:
    np.savez(tmp_path / "0.npz", x=ramp(3, 1, 4, 2), labels=[4, 5, 6])
    np.savez(tmp_path / "1.npz", x=ramp(1, 9, 2), labels=[8])
    samples = list(open_source(tmp_path, [X]))
    assert [s.name for s in samples] == ["0.npz[0]", "0.npz[1]", "0.npz[2]", "1.npz"]
    assert [s.label for s in samples] == [4, 5, 6, 8]
    np.testing.assert_array_equal([s.feed["x"] for s in samples[:3]], ramp(3, 1, 4, 2))


def test_fixed_batch_is_fed_as_it_is(tmp_path: Path) -> None:
    np.savez(tmp_path / "0.npz", x=ramp(4, 2), rate=16000)
    inputs = [InputInfo("x", np.dtype(np.float32), (4, 2)), InputInfo("rate", np.dtype(np.int64), ())]
    (sample,) = open_source(tmp_path, inputs)
    assert sample.feed["x"].shape == (4, 2) and sample.feed["rate"].shape == () and sample.feed["rate"] == 16000


def test_refusals_name_the_file(tmp_path: Path) -> None:
    assert "holds no .npz files and no test_data_set_* folders" in refusal(tmp_path, X)
    np.savez(tmp_path / "0.npz", x=ramp(1, 3, 2), label=1)
    np.savez(tmp_path / "1.npz", x=ramp(1, 3, 2))
    assert refusal(tmp_path, X) == f"{tmp_path}: 0.npz has labels and 1.npz has none"
    np.savez(tmp_path / "1.npz", x=ramp(1, 3, 3), label=1)
    text = refusal(tmp_path, X)
    assert text == f"{tmp_path / '1.npz'}: input 'x' takes shape (N, T, 2), but the data has (1, 3, 3)"
    np.savez(tmp_path / "1.npz", x=np.full((1, 3, 2), np.inf, np.float32), label=1)
    assert refusal(tmp_path, X).startswith("1.npz: input 'x' holds inf at [0, 0, 0]")
    np.savez(tmp_path / "1.npz", x=ramp(1, 3, 2), label=1, labels=1)
    assert refusal(tmp_path, X) == f"{tmp_path / '1.npz'}: holds both 'labels' and 'label' (keep one)"
    np.savez(tmp_path / "1.npz", x=ramp(1, 3, 2), label="cat")
    assert refusal(tmp_path, X) == f"{tmp_path / '1.npz'}['label']: labels are text, but must be numbers"
    (tmp_path / "1.npz").write_bytes((tmp_path / "0.npz").read_bytes()[:200])
    assert refusal(tmp_path, X).startswith(f"{tmp_path / '1.npz'}: cannot be read: ")


def test_a_file_that_changes_while_in_use(tmp_path: Path) -> None:
    np.savez(tmp_path / "0.npz", x=ramp(1, 3, 2))
    source = open_source(tmp_path, [X])
    assert len(list(source)) == 1
    np.savez(tmp_path / "0.npz", x=ramp(1, 4, 2))
    with pytest.raises(DataError, match="changed while it was in use"):
        list(source)
