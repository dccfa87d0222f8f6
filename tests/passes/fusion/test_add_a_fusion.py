"""Every snippet of docs/add-a-fusion.md runs, alone, in an empty folder."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from qcompiler.passes.fusion import fusion_rules

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "add-a-fusion.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("index", range(len(SNIPPETS)))
def test_snippet(index: int, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SNIPPETS[index]], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_example_is_whole() -> None:
    assert len(SNIPPETS) == 2
    assert "class RecogniseSoftplus(Rule)" in SNIPPETS[0]


def test_the_table_names_every_fusion_in_its_order() -> None:
    rows = re.findall(r"^\| (`[^|]*) \|", PAGE, re.MULTILINE)
    assert [name for row in rows for name in re.findall(r"`([^`]+)`", row)] == [rule.name for rule in fusion_rules()]
