"""Chips by name, number and architecture."""

import pytest

from qcompiler import backends
from qcompiler.backends.qnn.backend import Qnn
from qcompiler.backends.qnn.socs import ARCHES, SOCS, parse
from qcompiler.errors import UsageError


def test_numbers_and_names_are_unique() -> None:
    assert len({soc.number for soc in SOCS.values()}) == len(SOCS)
    assert all(soc.arch in (68, 69, 73, 75, 79, 81) for soc in SOCS.values())


@pytest.mark.parametrize("text", ["sm8650", "SM8650", "57", "v75"])
def test_one_chip_by_any_name(text: str) -> None:
    assert [soc.name for soc in parse(text)] == ["sm8650"]


def test_the_default_is_the_first() -> None:
    assert parse("") == parse("sm8650") and backends.get("qnn").variant == "sm8650"


def test_every_architecture_has_a_chip() -> None:
    assert {name: f"v{SOCS[chip].arch}" for name, chip in ARCHES.items()} == {name: name for name in ARCHES}


def test_several_chips_and_the_lowest_architecture_decides() -> None:
    found = Qnn("sm8550,57")
    assert [soc.number for soc in found.socs] == [43, 57] and found.arch == 73


def test_an_unknown_chip_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"no chip 'sm9999' \(known: sm8650 \(57\), .*v81\)"):
        backends.get("qnn:sm9999")


def test_a_chip_twice() -> None:
    with pytest.raises(UsageError, match="'sm8650' is given twice"):
        backends.get("qnn:sm8650,57")
