"""The conversation with the child process."""

from pathlib import Path

import pytest

from qcompiler.backends.qnn import runtime

SCRIPT = """
import json, os, sys, time
from pathlib import Path
folder = Path(sys.argv[1])
for i, request in enumerate(json.loads((folder / "requests.json").read_text())):
    if (folder / f"{i}.json").exists():
        continue
    print(f"request {i}", file=sys.stderr, flush=True)
    print("says", request["task"], file=sys.stderr, flush=True)
    if request["task"] == "die":
        os._exit(9)
    if request["task"] == "hang":
        time.sleep(60)
    (folder / f"{i}.json").write_text(json.dumps({"ok": True, "did": request["task"]}))
"""


@pytest.fixture
def child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    script = tmp_path / "fake.py"
    script.write_text(SCRIPT)
    monkeypatch.setattr(runtime, "CHILD", script)
    return tmp_path / "ask"


def test_answers_in_order_each_with_its_log(child: Path) -> None:
    found = runtime.ask([{"task": "a"}, {"task": "b"}], child)
    assert [answer.facts["did"] for answer in found] == ["a", "b"]
    assert [answer.log.strip() for answer in found] == ["says a", "says b"]


def test_a_crash_costs_one_request(child: Path) -> None:
    first, second, third = runtime.ask([{"task": "a"}, {"task": "die"}, {"task": "b"}], child)
    assert first.ok and third.ok and not second.ok
    assert second.error == "the process ended with status 9: says die"


def test_a_request_that_hangs_is_ended(child: Path) -> None:
    first, second = runtime.ask([{"task": "hang"}, {"task": "b"}], child, timeout=1.0)
    assert not first.ok and first.error.startswith("no answer within 1 s") and second.ok


def test_a_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "PACKAGE", "no_such_package_at_all")
    runtime.versions.cache_clear()
    try:
        assert runtime.versions() == "the package onnxruntime-qnn is not installed (pip install 'qcompiler[qnn]')"
    finally:
        runtime.versions.cache_clear()
