"""What a compile on disk by data takes, and that it is refused where there is less."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler.errors import UsageError
from qcompiler.search import memory
from qcompiler.search.in_turn import Turn
from tests.graphs import parse

MIB = 1 << 20


def test_the_largest_product_and_the_widest_value_count() -> None:
    model = parse(
        "g (float[4, 512] x) => (float[4, 2048] y) { y = MatMul (x, w) }", {"w": np.zeros((512, 2048), np.float32)}
    )
    turns = [Turn("x", 512, []), Turn("z", 9000, [])]
    assert memory.needed(model, turns, 8192) == int(2.5 * 4 * MIB) + memory.FIXED
    assert memory.needed(model, [*turns, Turn("w", 1024, [])], 8192) == 36 * MIB + memory.FIXED


def test_too_little_memory_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available", lambda: 2048 * MIB)
    memory.check(2048 * MIB)
    with pytest.raises(UsageError, match="takes about 3000 MiB of memory, and 2048 are free"):
        memory.check(3000 * MIB)
    monkeypatch.setattr(memory, "available", lambda: None)
    memory.check(1 << 60)


def test_this_machine_says_what_it_has() -> None:
    found = memory.available()
    assert found is None or found > 0
