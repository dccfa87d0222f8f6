"""What a search learnt, for a person."""

from __future__ import annotations

import pytest

from qcompiler.report.explain_text import evidence
from qcompiler.report.search_facts import costs
from qcompiler.search.costs import Unit

GROUP = {"precision": "int8", "quantized_us": 1500.0, "float_us": 6000.0, "sqnr_db": 40.0, "local_db": None}


@pytest.mark.parametrize(
    ("unit", "said"),
    [
        ("seconds", "1500 us in int8, 6000 us in float"),
        ("bytes", "1.5 kB in int8, 6 kB in float"),
        ("bit operations", "0.0015 Mbop in int8, 0.006 Mbop in float"),
    ],
)
def test_costs_have_their_unit(unit: Unit, said: str) -> None:
    assert costs(GROUP, unit) == said
    assert evidence({**GROUP, "unit": unit}).endswith(f"at the worst, {said}")


def test_what_was_not_measured_is_not_said() -> None:
    assert costs({**GROUP, "float_us": None}, "seconds") == ""
    assert evidence({**GROUP, "float_us": None, "unit": "seconds"}) == (
        "int8 of its group alone leaves 40.0 dB at the worst"
    )
