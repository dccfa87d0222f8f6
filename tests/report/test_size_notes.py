"""A model in float16 that grew says so; others are as large as they are."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler.report.assemble import size_notes
from tests.graphs import parse

TEXT = "g (float16[2, 4] x) => (float16[2, 4] y) { y = MatMul(x, w) }"
WIDE = TEXT.replace("float16", "float")


@pytest.mark.parametrize(("given", "made", "said"), [(TEXT, WIDE, 1), (TEXT, TEXT, 0), (WIDE, WIDE, 0)])
def test_growth(given: str, made: str, said: int) -> None:
    models = [parse(text, {"w": np.ones((4, 4), np.float16 if text is TEXT else np.float32)}) for text in (given, made)]
    notes = size_notes(*models)
    assert len(notes) == said
    assert all("64 bytes, more than the 32" in note for note in notes)
