"""The page has the table that the code makes, and every row of it says where it comes from."""

from __future__ import annotations

from pathlib import Path

from qcompiler.backends.coreml.coverage import lines, summary
from qcompiler.backends.coreml.lower import FAMILIES, TABLE

PAGE = Path(__file__).resolve().parents[3] / "docs" / "coreml.md"


def test_the_page_has_the_table_of_the_code() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert "\n".join(lines()) in text and summary() in text.replace("\n", " ")


def test_every_lowering_belongs_to_a_family() -> None:
    modules = {module.__name__ for module in FAMILIES.values()}
    assert {row.lower.__module__ for row in TABLE.values()} == modules
    assert len(TABLE) >= 90
