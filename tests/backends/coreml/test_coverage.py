"""The page has the table that the code makes, and every row of it says where it comes from."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path

import pytest

from qcompiler.backends.coreml.coverage import lines, summary
from qcompiler.backends.coreml.lower import FAMILIES, TABLE
from qcompiler.backends.coreml.peers import PYTORCH

PAGE = Path(__file__).resolve().parents[3] / "docs" / "coreml.md"


def test_the_page_has_the_table_of_the_code() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert "\n".join(lines()) in text and summary() in text.replace("\n", " ")


def test_every_lowering_belongs_to_a_family() -> None:
    modules = {module.__name__ for module in FAMILIES.values()}
    assert {row.lower.__module__ for row in TABLE.values()} == modules
    assert len(TABLE) >= 90


def registered() -> set[str]:
    """The operators of PyTorch in the source of coremltools, which imports torch and is not imported here."""
    spec = importlib.util.find_spec("coremltools")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("the extra coreml is not installed")
    found: set[str] = set()
    for file in (Path(spec.submodule_search_locations[0]) / "converters/mil/frontend/torch").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            for mark in node.decorator_list if isinstance(node, ast.FunctionDef) else []:
                named = mark.func if isinstance(mark, ast.Call) else mark
                if isinstance(named, ast.Name) and named.id == "register_torch_op":
                    keywords = mark.keywords if isinstance(mark, ast.Call) else []
                    found |= {node.name} | {
                        n for k in keywords if k.arg == "torch_alias" for n in ast.literal_eval(k.value)
                    }
    return found


def test_what_is_said_of_pytorch_is_in_coremltools() -> None:
    assert set(PYTORCH.values()) <= registered()
    assert PYTORCH.keys() <= {op for domain, op in TABLE if not domain}
