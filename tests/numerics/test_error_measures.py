"""SQNR and agreement: exact, merged whatever the split, NaN never hidden."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from qcompiler.errors import InternalError
from qcompiler.numerics.error_measures import AgreementMeter, SqnrMeter

F32 = npt.NDArray[np.float32]


def test_sqnr_of_known_noise() -> None:
    x = np.random.default_rng(0).normal(size=(7, 100_000)).astype(np.float32)
    meter = SqnrMeter().update(x, x * np.float32(1.01))
    assert meter.db == pytest.approx(40, abs=1e-3)
    assert meter.count == x.size
    noise = np.random.default_rng(1).normal(size=x.shape).astype(np.float32) * np.float32(0.1)
    wanted = 10 * np.log10(np.square(x, dtype=np.float64).sum() / np.square((x + noise) - x, dtype=np.float64).sum())
    assert SqnrMeter().update(x, x + noise).db == pytest.approx(wanted, rel=1e-6)


pairs = st.integers(1, 40).flatmap(
    lambda n: st.tuples(*[hnp.arrays(np.float32, n, elements=st.floats(-1e6, 1e6, width=32))] * 2)
)


@given(pair=pairs, cut=st.integers(0, 40))
def test_sqnr_does_not_depend_on_the_split(pair: tuple[F32, F32], cut: int) -> None:
    x, y = pair
    whole = SqnrMeter().update(x, y)
    parts = SqnrMeter().update(x[cut:], y[cut:]).merge(SqnrMeter().update(x[:cut], y[:cut]))
    assert parts.count == whole.count
    assert parts.db == pytest.approx(whole.db, rel=1e-9)


def test_sqnr_at_the_ends() -> None:
    one, zero = np.float32([1.0]), np.float32([0.0])
    assert SqnrMeter().db == math.inf
    assert SqnrMeter().update(one, one).db == math.inf
    assert SqnrMeter().update(zero, zero).db == math.inf
    assert SqnrMeter().update(zero, one).db == -math.inf
    assert SqnrMeter().update(one, zero).db == 0


@pytest.mark.parametrize("lost", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_a_total_loss(lost: float) -> None:
    good = SqnrMeter().update(np.float32([1, 2]), np.float32([1, 2.1]))
    bad = SqnrMeter().update(np.float32([1, 2]), np.float32([lost, 2]))
    assert bad.db == -math.inf
    assert good.merge(bad).db == bad.merge(good).db == -math.inf


def test_infinite_references_are_left_out() -> None:
    masked = np.float32([1, -np.inf, np.nan, 2])
    meter = SqnrMeter().update(masked, np.float32([1, -3e38, 5, 2.2]))
    assert meter.count == 2
    assert meter.db == pytest.approx(10 * math.log10(5 / 0.04), abs=1e-4)
    assert SqnrMeter().update(masked, masked).db == math.inf
    assert SqnrMeter().update(masked, np.float32([1, np.nan, 5, 2])).db == -math.inf


def test_sqnr_of_other_types_and_shapes() -> None:
    x = np.arange(12).reshape(3, 4)
    assert SqnrMeter().update(x, x.astype(np.float16)).db == math.inf
    assert SqnrMeter().update(x, x.astype(np.uint8)).db == math.inf
    with pytest.raises(InternalError, match="shape \\(4, 3\\) with one of shape \\(3, 4\\)"):
        SqnrMeter().update(x, x.T)


def test_agreement_counts() -> None:
    reference = np.float32([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0]])
    got = np.float32([[1, 0, 0], [0, 0, 1], [0, 1, 0], [0, 1, 0]])
    meter = AgreementMeter().update(reference, got, [0, 1, 1, 2])
    assert meter == AgreementMeter(total=4, agreed=1, both=1, lost=1, gained=1, neither=1)
    assert (meter.agreement, meter.reference_accuracy, meter.accuracy) == (0.25, 0.5, 0.5)
    assert meter.drop().drop == 0


@given(data=st.data(), rows=st.integers(0, 20), cut=st.integers(0, 20))
def test_agreement_does_not_depend_on_the_split(data: st.DataObject, rows: int, cut: int) -> None:
    scores = hnp.arrays(np.float32, (rows, 3), elements=st.integers(0, 4))
    x, y = data.draw(scores), data.draw(scores)
    labels = np.array(data.draw(st.lists(st.integers(0, 2), min_size=rows, max_size=rows)), np.int64)
    whole = AgreementMeter().update(x, y, labels)
    parts = AgreementMeter().update(x[cut:], y[cut:], labels[cut:])
    assert parts.merge(AgreementMeter().update(x[:cut], y[:cut], labels[:cut])) == whole
    assert whole.agreed == (x.argmax(1) == y.argmax(1)).sum()
    assert whole.labelled == rows


def test_agreement_over_leading_axes_and_without_labels() -> None:
    scores = np.random.default_rng(0).normal(size=(2, 5, 4)).astype(np.float32)
    meter = AgreementMeter().update(scores, scores)
    assert (meter.total, meter.agreement, meter.labelled) == (10, 1.0, 0)
    assert math.isnan(meter.accuracy) and math.isnan(AgreementMeter().agreement)
    labelled = AgreementMeter().update(scores, scores, scores.argmax(-1))
    assert labelled.accuracy == labelled.reference_accuracy == 1


def test_nan_scores_never_agree() -> None:
    scores = np.float32([[np.nan, 0]])
    meter = AgreementMeter().update(scores, scores, [0])
    assert (meter.agreed, meter.lost) == (0, 1)


def test_agreement_refuses_what_does_not_fit() -> None:
    with pytest.raises(InternalError, match="compared scores"):
        AgreementMeter().update(np.zeros((2, 3)), np.zeros((2, 4)))
    with pytest.raises(InternalError, match="3 labels for 2 rows"):
        AgreementMeter().update(np.zeros((2, 3)), np.zeros((2, 3)), [0, 1, 2])
