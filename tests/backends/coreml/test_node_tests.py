"""ONNX's own node tests: every operator of the table, lowered, saved, read back, evaluated; none may fail.

Here without written-out variants and types that Core ML lacks; `benchmarks.coreml_node_tests` runs all.
"""

from __future__ import annotations

import re
import warnings
from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("coremltools", reason="the extra coreml is not installed")

from tests.backends.coreml import node_tests

ELSEWHERE = re.compile(
    r"_expanded|cast|bf16|BFLOAT|FLOAT8|uint|int8|int16|attention_(3|4)d_(?!causal$|gqa$)|_3d_|rms_norm.*(3d|4d)"
)
PASSED = 400
"""Tests that passed when this was written, at least."""


def test_no_node_test_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        outcomes = [node_tests.run(case, tmp_path) for case in node_tests.cases() if not ELSEWHERE.search(case.name)]
    counts = Counter(outcome.verdict for outcome in outcomes)
    with capsys.disabled():
        print(f"\nONNX node tests through Core ML: {dict(counts)}")
    failed = [f"{outcome.name}: {outcome.detail}" for outcome in outcomes if outcome.verdict == "failed"]
    assert not failed, "\n".join(failed)
    assert counts["passed"] >= PASSED
