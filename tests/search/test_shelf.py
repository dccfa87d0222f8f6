"""Finished weights on disk: whole or not there."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from ml_dtypes import uint4

from qcompiler import ir
from qcompiler.search.shelf import Shelf, open_shelf

RNG = np.random.default_rng(0)


def constants() -> list[ir.Constant]:
    return [
        ir.Constant("codes", RNG.integers(0, 16, (7, 5), np.uint8).astype(uint4)),
        ir.Constant("scale", RNG.random((7, 1)).astype(np.float16)),
    ]


def test_what_is_filed_is_found_by_another_process(tmp_path: Path) -> None:
    filed = constants()
    Shelf.open(tmp_path, "k").put("a", {"method": "rtn"}, filed)
    Shelf.open(tmp_path, "k").put("b", {"method": "mse"}, filed[:1])
    shelf = Shelf.open(tmp_path, "k")
    found = shelf.get("a")
    assert found is not None and found[0] == {"method": "rtn"} and shelf.get("c") is None
    for lazy, constant in zip(found[1], filed, strict=True):
        assert lazy.external and lazy.dtype == constant.dtype
        np.testing.assert_array_equal(lazy.load(), ir.array(constant))
    assert Shelf.open(tmp_path, "other").get("a") is None
    offsets = [int(p["offset"]) for key in "ab" for p in shelf.journal.get(key)["parts"]]
    assert all(offset % 4096 == 0 for offset in offsets) and len(set(offsets)) == 3


@pytest.mark.parametrize("harm", ["flip", "cut", "gone"])
def test_damaged_arrays_count_as_missing(tmp_path: Path, harm: str) -> None:
    shelf = Shelf.open(tmp_path, "k")
    shelf.put("a", {}, constants())
    content = bytearray(shelf.file.read_bytes())
    content[0] ^= 1
    if harm == "gone":
        shelf.file.unlink()
    else:
        shelf.file.write_bytes(content if harm == "flip" else content[:-1])
    assert shelf.get("a") is None


def test_bytes_behind_the_last_record_are_passed_over(tmp_path: Path) -> None:
    shelf = Shelf.open(tmp_path, "k")
    shelf.put("a", {}, constants())
    with shelf.file.open("ab") as stream:
        stream.write(b"torn")
    filed = constants()
    shelf.put("b", {}, filed)
    found = Shelf.open(tmp_path, "k").get("b")
    assert found is not None
    np.testing.assert_array_equal(found[1][0].load(), ir.array(filed[0]))


def test_a_shelf_goes_when_all_went_well(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), open_shelf(tmp_path / "kept", None, "model") as shelf:
        shelf.put("a", {}, constants())
        raise RuntimeError
    with open_shelf(tmp_path / "kept", None, "model") as shelf:
        assert shelf.get("a") is not None
    assert not list((tmp_path / "kept").iterdir())
    old, new = (tmp_path / "kept" / f"{name}.shelf" for name in ("old", "new"))
    for file in (old, new):
        file.write_bytes(b"1")
    os.utime(old, (0, 0))
    with open_shelf(tmp_path / "kept", None, "model"):
        assert new.exists() and not old.exists()
    with pytest.raises(RuntimeError), open_shelf(None, tmp_path / "out", "model") as shelf:
        shelf.put("a", {}, constants())
        assert shelf.file.is_relative_to(tmp_path)
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
