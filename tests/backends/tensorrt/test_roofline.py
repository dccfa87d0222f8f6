"""The rooflines: a card for each kind, and faster types are faster."""

from __future__ import annotations

import pytest

from qcompiler.backends import get
from qcompiler.backends.tensorrt.roofline import ROOFLINES
from qcompiler.backends.tensorrt.variants import GPUS


def test_every_kind_has_a_card() -> None:
    assert set(ROOFLINES) == set(GPUS)
    assert get("tensorrt:sm80").spec.roofline is ROOFLINES["sm80"]


@pytest.mark.parametrize("name", ROOFLINES)
def test_fewer_bits_are_faster_where_the_kind_computes_in_them(name: str) -> None:
    card, known = ROOFLINES[name], get(f"tensorrt:{name}").spec.schemes
    for precision, bits in (("int8", 8), ("fp8", 8), ("nvfp4", 4)):
        assert (precision in card.rates) == (precision in known)
        if precision in known:
            # 4096 x 4096 x 4096: limited by arithmetic
            count = (2**36, 2**25, 2**24, bits)
            assert card.seconds(precision, *count) < 0.6 * card.seconds("float", 2**36, 2**25, 2**24, 16)
    # a matrix times a vector: limited by the weights
    thin = card.seconds("w8", 2**24, 2**13, 2**24, 8)
    assert thin - card.overhead == pytest.approx(2**24 / card.bandwidth, rel=0.01)
