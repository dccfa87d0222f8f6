"""Functions, lists, arrays of the caller; the user's exceptions become one line."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from qcompiler.data import InputInfo, Sample, open_source
from qcompiler.errors import DataError

X = InputInfo("x", np.dtype(np.float32), ("N", 2))
ROW = np.float32([[1, 2]])


def refusal(spec: object, **options: int) -> str:
    with pytest.raises(DataError) as caught:
        list(open_source(spec, [X], **options))  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that is the current one; sys.path and sys.modules are put back."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_a_function_is_called_for_each_reading() -> None:
    calls = []

    def feeds() -> Iterator[dict[str, object]]:
        calls.append(1)
        for i in range(3):
            yield {"x": [[i, 0.5]]}

    source = open_source(feeds, [X])
    assert (source.count, source.has_labels, source.description) == (None, False, "samples of feeds")
    for _ in range(2):
        samples = list(source)
        assert [s.name for s in samples] == ["feeds[0]", "feeds[1]", "feeds[2]"]
        assert [s.feed["x"].tolist() for s in samples] == [[[0, 0.5]], [[1, 0.5]], [[2, 0.5]]]
        assert {s.feed["x"].dtype for s in samples} == {X.dtype}
    assert len(calls) == 3  # one to look at the first sample
    assert len(list(open_source(lambda: ({"x": ROW} for _ in itertools.count()), [X], limit=5))) == 5


def test_labels_and_lists() -> None:
    source = open_source([({"x": ROW}, 4), ({"x": ROW}, np.int64(5)), ({"x": ROW}, np.array([6]))], [X])
    assert (source.count, source.has_labels) == (3, True)
    assert [s.label for s in source] == [4, 5, 6]
    named = [Sample({"x": ROW}, 1, "mine")]
    assert [(s.name, s.label) for s in open_source(named, [X])] == [("mine", 1)]
    assert refusal([({"x": ROW}, 4), {"x": ROW}]) == "data[1]: has no label, but others have one"
    assert refusal([{"x": ROW}, ({"x": ROW}, 4)]) == "data[1]: has a label, but others have none"
    assert refusal([({"x": ROW}, "cat")]) == "data[0]: labels are text, but must be numbers"


def test_readings_must_give_the_same_samples() -> None:
    rng = np.random.default_rng(1)
    source = open_source(lambda: ({"x": rng.normal(size=(1, 2))} for _ in range(2)), [X])
    list(source)
    with pytest.raises(DataError, match="gave other samples than the last time"):
        list(source)
    assert "can be read only once: give the function" in refusal(iter([{"x": ROW}]))


def test_what_is_not_a_feed() -> None:
    assert refusal([ROW]) == "data[0]: is ndarray, not a feed (yield {input name: array} or (feed, label))"
    assert refusal([]) == "data: holds no samples"
    assert refusal(lambda: iter([])) == "<lambda>: holds no samples"
    assert "<lambda>: gave NoneType" in refusal(lambda: None)
    assert "<lambda>: gave dict (yield one feed" in refusal(lambda: {"x": ROW})
    assert refusal(3) == "data: is int, not a function or a list of feeds"
    assert "data[0]['x']: raised ValueError: setting an array element" in refusal([{"x": [[1], [1, 2]]}])
    assert refusal([{"x": ROW}, {"x": object()}]) == "data[1]['x']: is object, not an array of numbers"
    assert refusal([{"x": ROW}, {"y": ROW}]) == "data[1]: 'y': no such input in the model (the model takes 'x')"
    assert refusal([{"x": ROW}, {"x": ROW * np.nan}]) == "data[1]: input 'x' holds nan at [0, 0]"


def test_package_module_function(module: Path) -> None:
    package = module / "calibration_kit"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (module / "late_helper.py").write_text("ROW = [[1.0, 2.0]]\n")
    (package / "feeds.py").write_text(
        "def some():\n    from late_helper import ROW\n    yield {'x': ROW}, 3\n\nclass Set:\n    @staticmethod\n"
        "    def all():\n        return [{'x': [[5, 6.5]]}]\n"
    )
    source = open_source("calibration_kit.feeds:some", [X])
    assert [(s.name, s.label) for s in source] == [("calibration_kit.feeds:some[0]", 3)]
    assert [s.feed["x"].tolist() for s in open_source("calibration_kit.feeds:Set.all", [X])] == [[[5, 6.5]]]
    assert sys.path[-1] == str(module)  # behind everything else, so that nothing of the compiler is shadowed


def test_the_users_exceptions_are_one_line(module: Path) -> None:
    (module / "bad_feeds.py").write_text(
        "import sys\n\ndef late():\n    yield {'x': [[1.0, 2.0]]}\n    raise KeyError('no\\nimage')\n\n"
        "def early():\n    return 1 / 0\n\ndef leave():\n    sys.exit('bye')\n\nnumber = 3\n"
    )
    (module / "bad_import.py").write_text("import numpy\nimport there_is_no_such_module\n")
    (module / "bad_syntax.py").write_text("def (:\n")
    text = refusal("bad_feeds:late")
    assert text == "bad_feeds:late[1]: raised KeyError: 'no\\nimage', line 5 of bad_feeds.py"
    assert refusal("bad_feeds:early") == (
        "bad_feeds:early: raised ZeroDivisionError: division by zero, line 8 of bad_feeds.py"
    )
    assert refusal("bad_feeds:leave") == "bad_feeds:leave: raised SystemExit: bye, line 11 of bad_feeds.py"
    assert refusal("bad_feeds:number") == "bad_feeds:number: is int, not a function or a list of feeds"
    assert refusal("bad_feeds:none") == "bad_feeds:none: 'bad_feeds' has no 'none'"
    assert refusal("nowhere.module:f") == "nowhere.module:f: raised ModuleNotFoundError: No module named 'nowhere'"
    assert refusal("bad_import:f").endswith("No module named 'there_is_no_such_module', line 2 of bad_import.py")
    assert refusal("bad_syntax:f").startswith("bad_syntax:f: raised SyntaxError: ")
    assert "no such file or folder (data is an .npz, a folder" in refusal("calib")
