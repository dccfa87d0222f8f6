"""best_method: the first method stays unless another one is clearly better."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler import ir
from qcompiler.data import Sample
from qcompiler.quant import QuantPlan
from qcompiler.search.candidates import Candidate
from qcompiler.search.evaluations import Evaluations
from qcompiler.search.judge import CLEARLY, best_method
from tests.small import graph

IMAGES = np.random.default_rng(0).normal(size=(3, 1, 4, 16, 16)).astype(np.float32)
SOURCE = [Sample({"x": image}, None, str(i)) for i, image in enumerate(IMAGES)]


def off(decibel: float | None) -> Candidate:
    """A candidate whose output is off by noise of this many dB under the signal; by nothing for None."""
    factor = 1.0 if decibel is None else 1 + 10 ** (-decibel / 20)
    model = graph("y = Mul(x, f)", constants={"f": np.float32(factor)})
    return Candidate("int8", str(decibel), model, model, QuantPlan())


@pytest.mark.parametrize(
    ("levels", "best"),
    [
        ((20, 20 + CLEARLY - 0.1, 15), 0),
        ((20, 20 + CLEARLY + 0.1, 15), 1),
        ((20, 23, 25), 2),
        ((20, 30, 30), 1),
        ((None, None, 30), 0),
    ],
)
def test_the_first_unless_another_is_clearly_better(levels: tuple[float | None, ...], best: int) -> None:
    original: ir.Model = graph("y = Identity(x)")
    candidates = [off(level) for level in levels]
    assert best_method(Evaluations(original, SOURCE), candidates) is candidates[best]
