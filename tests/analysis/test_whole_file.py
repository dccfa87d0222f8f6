"""Files that appear whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from qcompiler.analysis.whole_file import write_whole
from qcompiler.errors import OutputError


def test_takes_the_place_of_an_earlier_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    for content in (b"one", b"two"):
        write_whole(tmp_path / "f", content)
        assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("f", content)]


def test_a_place_that_cannot_be_written_keeps_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()
    with pytest.raises(OutputError, match="cannot be written"):
        write_whole(tmp_path / "f", b"content")
    with pytest.raises(OutputError, match="cannot be written"):
        write_whole(tmp_path / "nowhere" / "f", b"content")
    assert [path.name for path in tmp_path.iterdir()] == ["f"]
