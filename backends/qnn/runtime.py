"""Asks the child process that holds Qualcomm's libraries (`child.py`), and survives its crashes.

A request that ends the process, or on which it does not answer in time, has failed; the rest of its list goes to a new
process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

PACKAGE = "onnxruntime_qnn"
INSTALL = "pip install 'qcompiler[qnn]'"
CHILD = Path(__file__).with_name("child.py")
TIMEOUT = 3600.0
"""Seconds for one request: large graphs take minutes to finalize."""
POLL = 0.05

STRICT = {"session.disable_cpu_ep_fallback": "1", "session.record_ep_graph_assignment_info": "1"}
LENIENT = {"session.disable_cpu_ep_fallback": "0", "session.record_ep_graph_assignment_info": "1"}

Request = Mapping[str, Any]


@dataclass(frozen=True)
class Answer:
    """What became of one request.

    Attributes:
        ok: whether it was done.
        error: why not, in the words of whoever failed.
        facts: what the child says besides.
        log: what the libraries wrote to standard error meanwhile.
    """

    ok: bool
    error: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    log: str = ""


def ask(
    requests: Sequence[Request], folder: Path, timeout: float = TIMEOUT, watch: Callable[[], None] = lambda: None
) -> list[Answer]:
    """Has all requests done, in order.

    Args:
        requests: see `child.py`.
        folder: an empty folder for the conversation.
        timeout: seconds for each.
        watch: called now and then while waiting.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "requests.json").write_text(json.dumps(list(requests)), encoding="utf-8")
    answers: list[Answer] = []
    while len(answers) < len(requests):
        first = len(answers)
        log = folder / f"{first}.log"
        code = _run(folder, log, timeout, watch)
        text = log.read_text(encoding="utf-8", errors="replace")
        while len(answers) < len(requests) and (folder / f"{len(answers)}.json").exists():
            facts = json.loads((folder / f"{len(answers)}.json").read_text(encoding="utf-8"))
            said = _part(text, len(answers))
            answers.append(Answer(facts.pop("ok"), facts.pop("error", ""), facts, said))
        if len(answers) < len(requests):
            number = len(answers)
            why = f"no answer within {timeout:g} s" if code is None else f"the process ended with status {code}"
            said = _part(text, number)
            lines = [line for line in said.splitlines() if line.strip()]
            answers.append(Answer(False, f"{why}{': ' + lines[-1] if lines else ''}", {}, said))
            (folder / f"{number}.json").write_text('{"ok": false}', encoding="utf-8")
    return answers


def _run(folder: Path, log: Path, timeout: float, watch: Callable[[], None]) -> int | None:
    """Runs the child until it ends; None where it took too long over one request."""
    with log.open("wb") as stream:
        command = [sys.executable, "-P", str(CHILD), str(folder)]
        child = subprocess.Popen(command, stdout=stream, stderr=stream, env={**os.environ, "PYTHONUNBUFFERED": "1"})
        done, since = -1, time.monotonic()
        try:
            while child.poll() is None:
                time.sleep(POLL)
                watch()
                now = sum(1 for _ in folder.glob("*.json"))
                if now != done:
                    done, since = now, time.monotonic()
                if time.monotonic() - since > timeout:
                    return None
        finally:
            if child.poll() is None:
                child.kill()
            child.wait()
    watch()
    return child.returncode


def _part(log: str, number: int) -> str:
    """What was written during one request, or before the first where the child did not come that far."""
    head, mark, tail = log.partition(f"request {number}\n")
    return tail.partition(f"request {number + 1}\n")[0] if mark else head


@cache
def versions() -> Mapping[str, str] | str:
    """Versions of onnxruntime, of the package and of QNN; or in words why there is nothing to ask."""
    import tempfile

    if find_spec(PACKAGE) is None:
        return f"the package onnxruntime-qnn is not installed ({INSTALL})"
    with tempfile.TemporaryDirectory() as folder:
        answer = ask([{"task": "version"}], Path(folder), timeout=120)[0]
    if answer.ok:
        return {key: str(value) for key, value in answer.facts.items()}
    return f"the package onnxruntime-qnn is installed and cannot be loaded here: {last_line(answer)}"


def last_line(answer: Answer) -> str:
    """The reason for a failure, in one line."""
    return " ".join(answer.error.split())
