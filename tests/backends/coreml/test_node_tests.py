"""ONNX's own node tests: every operator of the table, lowered, saved, read back, evaluated; none may fail.

Here a few of each operator; `benchmarks.coreml_node_tests` runs all.
"""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("coremltools", reason="the extra coreml is not installed")

from tests.backends.coreml import node_tests

ELSEWHERE = re.compile(r"_expanded|bf16|BFLOAT|FLOAT8|uint|int8|int16")
EACH = 5
"""Tests of each operator here."""
PASSED = 440
"""Tests that passed when this was written, at least."""


def few() -> Iterator[Any]:
    """The first tests of each operator, of those that are not elsewhere."""
    seen: Counter[str] = Counter()
    for case in node_tests.cases():
        op = case.model.graph.node[-1].op_type
        if not ELSEWHERE.search(case.name) and seen[op] < EACH:
            seen[op] += 1
            yield case


def test_no_node_test_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        outcomes = [node_tests.run(case, tmp_path) for case in few()]
    counts = Counter(outcome.verdict for outcome in outcomes)
    with capsys.disabled():
        print(f"\nONNX node tests through Core ML: {dict(counts)}")
    failed = [f"{outcome.name}: {outcome.detail}" for outcome in outcomes if outcome.verdict == "failed"]
    assert not failed, "\n".join(failed)
    assert counts["passed"] >= PASSED
