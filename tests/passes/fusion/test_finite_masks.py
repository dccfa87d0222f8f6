"""Masks of -infinity before Softmax."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler import ir
from qcompiler.passes.fusion.finite_masks import LOWEST, FiniteMasks
from tests.graphs import assert_same_numbers, parse, transform

TRIANGLE = np.triu(np.ones((4, 4), np.bool_), 1)
OPEN = "g (float[2,4,4] x, bool[2,1,4] b) => (float[2,4,4] y)"
FORMS = {
    "added": "s = Add(x, m) y = Softmax(s)",
    "chosen": "s = Where(t, v, x) y = Softmax(s)",
    "two masks": "r = Add(x, m) s = Add(m, r) y = Softmax(s)",
    "moved": "n = Unsqueeze(m, one) o = Squeeze(n, one) s = Add(o, x) y = Softmax<axis=-1>(s)",
    "read from an input": "r = Where(b, zero, v) s = Add(x, r) y = Softmax(s)",
    "bounded": "r = Clip(m, least) s = Add(x, r) y = Softmax(s)",
}
SEEN = {
    "LogSoftmax": "s = Add(x, m) y = LogSoftmax(s)",
    "IsNaN behind": "s = Add(x, m) a = Softmax(s) n = IsNaN(a) y = Where(n, zero, a)",
    "an output": "y = Add(x, m) z = Softmax(y)",
    "a product": "s = Mul(x, m) y = Softmax(s)",
    "infinity looked for": "s = Add(x, m) n = IsInf(s) a = Softmax(s) y = Where(n, zero, a)",
}


def model_of(text: str, lowest: float) -> ir.Model:
    constants = {
        "m": np.where(TRIANGLE, np.float32(lowest), np.float32(0)), "t": TRIANGLE, "v": np.float32(lowest),
        "zero": np.float32(0), "one": np.int64([1]), "least": np.finfo(np.float32).min,
    }  # fmt: skip
    words = text.replace("(", " ").replace(")", " ").replace(",", " ").split()
    return parse(f"{OPEN} {{ {text} }}", {name: value for name, value in constants.items() if name in words})


@pytest.mark.parametrize("lowest", [-np.inf, np.finfo(np.float32).min, -1e35])
@pytest.mark.parametrize("form", FORMS)
def test_a_mask_becomes_finite_and_nothing_else_changes(form: str, lowest: float) -> None:
    before = model_of(FORMS[form], lowest)
    after, records = transform(before, FiniteMasks())
    assert records[0].changes == 1
    found = [np.asarray(c.values) for c in after.constants() if c.dtype == np.float32 and c.name.endswith("_finite")]
    assert [values.min() for values in found] == [np.float32(LOWEST)]
    feeds = []
    for seed in range(3):
        seen = np.arange(4) <= 1 + np.arange(2)[:, None, None] + seed
        feeds.append({"x": np.random.default_rng(seed).normal(size=(2, 4, 4)).astype(np.float32), "b": seen})
    assert_same_numbers(before, after, feeds, rtol=0, atol=0)


@pytest.mark.parametrize("form", SEEN)
def test_infinity_that_could_be_seen_stays(form: str) -> None:
    before = model_of(SEEN[form], -np.inf)
    after, records = transform(before, FiniteMasks())
    assert records[0].changes == 0
    assert any(np.isinf(np.asarray(c.values)).any() for c in after.constants() if c.dtype == np.float32)


def test_small_masks_stay() -> None:
    _, records = transform(model_of(FORMS["added"], -1e4), FiniteMasks())
    assert records[0].changes == 0


def test_half_precision_has_a_bound_of_its_own() -> None:
    mask = np.where(TRIANGLE, -np.inf, 0).astype(np.float16)
    text = "g (float16[2,4,4] x) => (float16[2,4,4] y) { s = Add(x, m) y = Softmax(s) }"
    before = parse(text, {"m": mask})
    after, _ = transform(before, FiniteMasks())
    assert min(np.asarray(c.values).min() for c in after.constants()) == -3e4
    x = np.random.default_rng(0).normal(size=(2, 4, 4)).astype(np.float16)
    assert_same_numbers(before, after, [{"x": x}], rtol=0, atol=0)
