from __future__ import annotations

import pytest

from qcompiler.report.columns import NO_BREAK, counted, milliseconds, plural, shortened, size, table, wrapped


def test_columns_align_and_the_last_one_wraps_below_itself() -> None:
    rows = [["a", "1", "x " * 50], ["long", "22", "short"]]
    found = table(rows, right=(1,), indent=2)
    assert found[0].startswith("  a      1  x x")
    assert found[1].startswith(" " * 12 + "x")
    assert found[-1] == "  long  22  short"
    assert all(len(line) <= 80 for line in found)


def test_rows_may_end_early() -> None:
    assert table([["a", "b"], ["only one, and it is long"], []]) == ["a  b", "only one, and it is long", ""]


def test_a_hard_space_does_not_break() -> None:
    text = f"{'x' * 77} 12{NO_BREAK}kB"
    assert wrapped("", text) == ["x" * 77, "12 kB"]


def test_a_long_head_stands_alone() -> None:
    head, text = f"written to {'x' * 60}: ", ", ".join(["model.onnx"] * 4)
    assert wrapped(head, text) == [head.rstrip(), f"  {text}"]
    assert wrapped(head, "short") == [f"{head}short"]


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (999_949, "999.9 kB"), (999_960, "1.0 MB"), (10**12, "1000.0 GB")],
)
def test_size(count: int, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0"), (999, "999"), (1000, "1 k"), (70938, "70.9 k"), (999_900, "1 M"), (2.5e9, "2.5 G")]
)
def test_counted(number: float, text: str) -> None:
    assert counted(number) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.25, "0.250 ms"), (0.000123, "0.000123 ms"), (12.345, "12.3 ms"), (123.4, "123 ms"), (4321.9, "4322 ms")],
)
def test_milliseconds(value: float, text: str) -> None:
    assert milliseconds(value) == text


def test_shortened_keeps_both_ends() -> None:
    assert shortened("abcdefghij", 10) == "abcdefghij"
    assert shortened("abcdefghijk", 9) == "abc...ijk"
    assert len(shortened("x" * 99, 20)) == 20


def test_plural() -> None:
    assert [plural(n, "node") for n in (0, 1, 2)] == ["0 nodes", "1 node", "2 nodes"]
