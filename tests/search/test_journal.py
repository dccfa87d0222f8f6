"""A journal gives back what was put, whatever moment it was cut off at."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.search.journal import Journal, content_key, trim

VALUES = st.recursive(
    st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda some: st.lists(some) | st.dictionaries(st.text(), some),
    max_leaves=8,
)
KEY = content_key("model", "data")


def test_what_is_put_is_there_for_the_next_one(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path / "new", KEY)
    assert journal.get("a") is None and len(journal) == 0
    journal.put("a", {"drop": 0.1, "sqnr": math.inf})
    journal.put("b", [1, 2])
    journal.put("a", {"drop": 0.2})
    again = Journal.open(tmp_path / "new", KEY)
    assert again.get("a") == {"drop": 0.2} and again.get("b") == [1, 2] and len(again) == 2
    assert Journal.open(tmp_path / "new", content_key("other")).get("a") is None
    assert len(list((tmp_path / "new").iterdir())) == 1


def test_floats_come_back_to_the_last_bit(tmp_path: Path) -> None:
    values = [math.pi, 0.1 + 0.2, 5e-324, -0.0, math.inf, 1.7976931348623157e308]
    Journal.open(tmp_path, KEY).put("a", values)
    found = Journal.open(tmp_path, KEY).get("a")
    assert [value.hex() for value in found] == [value.hex() for value in values]
    Journal.open(tmp_path, KEY).put("nan", math.nan)
    assert math.isnan(Journal.open(tmp_path, KEY).get("nan"))


def test_a_record_is_a_copy() -> None:
    journal = Journal()
    journal.put("a", {"x": [1]})
    journal.get("a")["x"].append(2)
    assert journal.get("a") == {"x": [1]}


@settings(max_examples=60)
@given(st.lists(st.tuples(st.text(max_size=4), VALUES), min_size=1, max_size=5), st.data())
def test_cut_off_anywhere_it_keeps_what_was_whole_and_goes_on(
    tmp_path_factory: pytest.TempPathFactory, records: list[tuple[str, object]], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    journal, ends, expected = Journal.open(folder, KEY), [0], [dict[str, object]()]
    assert journal.file is not None
    for key, record in records:
        journal.put(key, record)
        ends.append(journal.file.stat().st_size if journal.file.is_file() else 0)
        expected.append({**expected[-1], key: record})
    content = journal.file.read_bytes()
    cut = data.draw(st.integers(0, len(content)))
    journal.file.write_bytes(content[:cut])
    known = expected[max(i for i, end in enumerate(ends) if end <= cut)]
    # a line that lacks nothing but its end is whole
    if any(end == cut + 1 for end in ends):
        known = expected[min(i for i, end in enumerate(ends) if end == cut + 1)]
    torn = Journal.open(folder, KEY)
    for key, _ in records:
        assert torn.get(key) == known.get(key)
    torn.put("next", "one")
    again = Journal.open(folder, KEY)
    assert again.get("next") == "one"
    for key in {key for key, _ in records} - {"next"}:
        assert again.get(key) == known.get(key)


def test_damaged_lines_are_passed_over(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path, KEY)
    for name in "abc":
        journal.put(name, {"value": 12345})
    assert journal.file is not None
    lines = journal.file.read_bytes().splitlines(keepends=True)
    lines[1] = lines[1].replace(b"12345", b"12346")
    journal.file.write_bytes(b"\x00\xff\n" + b"".join(lines))
    again = Journal.open(tmp_path, KEY)
    assert (again.get("a"), again.get("b"), again.get("c")) == ({"value": 12345}, None, {"value": 12345})


def test_a_place_that_cannot_be_written_keeps_records_in_memory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    journal = Journal.open(tmp_path / "file", KEY)
    journal.put("a", 1)
    assert journal.get("a") == 1
    assert journal.keep("plan.json", b"{}") is None


def test_a_kept_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path, KEY)
    assert Journal().keep("plan.json", b"1") is None
    for content in (b"first", b"second"):
        path = journal.keep("plan.json", content)
        assert path == journal.kept("plan.json") and path.read_bytes() == content
    assert [file.name for file in tmp_path.iterdir()] == [f"{KEY[:32]}.plan.json"]


def test_keys_tell_parts_apart() -> None:
    assert content_key("ab", "c") != content_key("a", "bc") != content_key("abc")
    assert content_key("a", 1) == content_key(b"a", "1")


def test_a_killed_process_leaves_every_record_that_it_put(tmp_path: Path) -> None:
    code = (
        "import itertools, sys\nfrom pathlib import Path\nfrom qcompiler.search.journal import Journal\n"
        f"journal = Journal.open(Path(sys.argv[1]), {KEY!r})\n"
        "for i in itertools.count():\n    journal.put(str(i), 'x' * 5000)\n    print(i, flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = [json.loads(process.stdout.readline()) for _ in range(30)]
        os.kill(process.pid, signal.SIGKILL)
        said += [int(line) for line in process.stdout.read().splitlines()]
    journal = Journal.open(tmp_path, KEY)
    assert all(journal.get(str(i)) == "x" * 5000 for i in said)


def test_what_was_not_written_to_for_longest_goes_first(tmp_path: Path) -> None:
    for age, name in enumerate(["new", "old", "older"]):
        (tmp_path / name).write_bytes(bytes(100))
        os.utime(tmp_path / name, ns=(0, 10**9 * (10 - age)))
    trim(tmp_path, 200)
    assert {path.name for path in tmp_path.iterdir()} == {"new", "old"}
    trim(tmp_path, 10**6)
    trim(tmp_path / "none", 0)
    trim(None)
    assert len(list(tmp_path.iterdir())) == 2
