"""Range methods: bounds, optimality against exhaustive search, agreement with plain implementations, speed."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from qcompiler.numerics import ranges
from qcompiler.numerics.affine import choose_qparams
from qcompiler.numerics.entropy_range import _best_threshold
from qcompiler.numerics.histogram import Histogram
from qcompiler.numerics.noise import GridNoise
from qcompiler.numerics.ranges import METHODS, auto, entropy, expected_error, minmax, mse, percentile, range_of

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

U8 = {"qmin": 0, "qmax": 255, "symmetric": False}
S8 = {"qmin": -127, "qmax": 127, "symmetric": True}
U4 = {"qmin": 0, "qmax": 15, "symmetric": False}
S16 = {"qmin": -32768, "qmax": 32767, "symmetric": True}
GRIDS = [U8, S8, U4, S16, {"qmin": -128, "qmax": 127, "symmetric": False}, {"qmin": 0, "qmax": 255, "symmetric": True}]


def hardswish(x: F64) -> F64:
    return x * np.clip(x + 3, 0, 6) / 6


def gelu(x: F64) -> F64:
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


SAMPLES: dict[str, Callable[[np.random.Generator, int], F64]] = {
    "normal": lambda r, n: r.normal(size=n),
    "relu": lambda r, n: np.maximum(r.normal(size=n), 0),
    "laplace": lambda r, n: r.laplace(size=n),
    "student": lambda r, n: r.standard_t(3, size=n),
    "hardswish": lambda r, n: hardswish(r.normal(size=n) * 2),
    "gelu": lambda r, n: gelu(r.normal(size=n) * 1.5),
    "skewed": lambda r, n: r.gamma(2, size=n) - 0.5,
}


def sample(kind: str, size: int = 200_000, seed: int = 0) -> F32:
    return SAMPLES[kind](np.random.default_rng(seed), size).astype(np.float32)


class Exact:
    """Mean squared error of a grid on raw values, exact, from sums over the values of each code."""

    def __init__(self, x: F32) -> None:
        self.x = np.sort(x.astype(np.float64))
        self.sums = [np.append(0.0, np.cumsum(self.x**power)) for power in range(3)]

    def __call__(self, low: float, high: float, qmin: int, qmax: int, symmetric: bool) -> float:
        scale, zero_point = choose_qparams(low, high, qmin=qmin, qmax=qmax, symmetric=symmetric)
        values = (np.arange(qmin, qmax + 1) - float(zero_point)) * float(scale)
        cuts = np.searchsorted(self.x, (values[1:] + values[:-1]) / 2)
        count, first, second = (np.diff(part[np.concatenate([[0], cuts, [self.x.size]])]) for part in self.sums)
        return float((second - 2 * values * first + values**2 * count).sum()) / self.x.size


def least_error(exact: Exact, x: F32, **grid: int | bool) -> float:
    """The best of about 5000 ranges: a mesh over both ends, then a finer one around the best."""
    low, high = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
    both = low < 0 < high and not grid["symmetric"]
    wide, near = np.geomspace(1, 0.02, 60 if both else 400), np.geomspace(0.94, 1.07, 40 if both else 300)

    def search(lows: F64, highs: F64) -> tuple[float, float, float]:
        lows, highs = np.maximum(lows, low), np.minimum(highs, high)
        if both:
            lows, highs = (part.reshape(-1) for part in np.meshgrid(lows, highs))
        return min((exact(a, b, **grid), a, b) for a, b in zip(lows, highs, strict=True))  # type: ignore[arg-type]

    if grid["symmetric"]:
        low = -(high := max(-low, high))
    _, a, b = search(low * wide, high * wide)
    return search(a * near, b * near)[0]


@pytest.mark.parametrize("kind", SAMPLES)
@pytest.mark.parametrize("grid", [U8, S8, U4], ids=["u8", "s8", "u4"])
def test_mse_is_within_half_a_percent_of_the_best(kind: str, grid: dict[str, int]) -> None:
    x = sample(kind)
    exact = Exact(x)
    low, high = mse(Histogram.of(x), **grid)
    assert exact(low, high, **grid) <= 1.005 * least_error(exact, x, **grid)


arrays = hnp.arrays(
    np.float32, st.integers(0, 60), elements=st.one_of(st.floats(width=32), st.floats(-10, 10, width=32), st.just(0.0))
)


@pytest.mark.parametrize("name", METHODS)
@given(x=arrays, grid=st.sampled_from(GRIDS))
def test_every_range_holds_zero_and_no_more_than_was_seen(name: str, x: F32, grid: dict[str, int]) -> None:
    hist = Histogram.of(x)
    low, high = METHODS[name](hist, **grid)
    kept = x[np.isfinite(x)].astype(np.float64)
    assert min(kept.min(initial=0), 0) <= low <= 0 <= high <= max(kept.max(initial=0), 0)
    scale, _ = choose_qparams(low, high, **grid)
    assert scale > 0


@given(x=arrays, grid=st.sampled_from(GRIDS))
def test_mse_is_never_worse_than_the_others(x: F32, grid: dict[str, int]) -> None:
    hist = Histogram.of(x)

    def noise(method: str) -> float:
        scale, zero_point = choose_qparams(*METHODS[method](hist, **grid), **grid)
        return expected_error(hist, scale, zero_point, qmin=grid["qmin"], qmax=grid["qmax"])[1]

    assert noise("mse") <= noise("minmax") * (1 + 1e-9)


@given(x=arrays, grid=st.sampled_from(GRIDS))
def test_auto_is_near_the_best_where_clipping_counts_twice(x: F32, grid: dict[str, int]) -> None:
    hist = Histogram.of(x)
    ranges = [auto(hist, **grid), minmax(hist, **grid), mse(hist, **grid, clipping=2.0)]
    scale, zero_point = choose_qparams(*np.array(ranges).T, **grid)
    noise = GridNoise.of(hist)(scale, zero_point, qmin=grid["qmin"], qmax=grid["qmax"], clipping=2.0)
    assert noise[0] <= 1.05 * noise[1:].min() * (1 + 1e-6)


@given(x=arrays, cut=st.integers(0, 60), name=st.sampled_from(sorted(METHODS)))
def test_ranges_do_not_depend_on_the_split(x: F32, cut: int, name: str) -> None:
    merged = Histogram.of(x[cut:]).merge(Histogram.of(x[:cut]))
    assert METHODS[name](merged, **U8) == METHODS[name](Histogram.of(x), **U8)


def test_minmax_is_exact() -> None:
    x = sample("student")
    assert minmax(Histogram.of(x), **U8) == (x.min(), x.max())
    assert minmax(Histogram.of(x + 1000), **U8) == (0, (x + 1000).max())


@pytest.mark.parametrize("kind", ["normal", "laplace", "student"])
def test_percentile_is_close_to_the_exact_one(kind: str) -> None:
    x = sample(kind)
    low, high = percentile(Histogram.of(x), **U8)
    wanted = np.percentile(x, [0.005, 99.995])
    np.testing.assert_allclose([low, high], wanted, rtol=0.008)
    low, high = percentile(Histogram.of(x), **S8)
    assert max(-low, high) == pytest.approx(np.percentile(np.abs(x), 99.99), rel=0.008)
    narrow = percentile(Histogram.of(x), **U8, percent=90)
    np.testing.assert_allclose(narrow, np.percentile(x, [5, 95]), rtol=0.008)


def test_percentile_of_everything_is_minmax() -> None:
    x = sample("normal")
    assert percentile(Histogram.of(x), **U8, percent=100) == (x.min(), x.max())


@pytest.mark.parametrize("name", METHODS)
def test_one_sided_data_keeps_its_zero_end(name: str) -> None:
    x = sample("relu")
    assert METHODS[name](Histogram.of(x), **U8)[0] == 0
    assert METHODS[name](Histogram.of(-x), **U8)[1] == 0


@pytest.mark.parametrize("kind", ["clip", "sigmoid", "hardsigmoid", "few"])
def test_auto_keeps_the_whole_range_of_bounded_data(kind: str) -> None:
    wide = np.random.default_rng(1).normal(size=100_000) * 3
    x = {
        "clip": np.clip(wide, 0, 6),
        "sigmoid": 1 / (1 + np.exp(-2 * wide)),
        "hardsigmoid": np.clip(wide / 6 + 0.5, 0, 1),
        "few": np.random.default_rng(1).integers(-3, 9, 100_000),
    }[kind].astype(np.float32)
    assert auto(Histogram.of(x), **U8) == (min(x.min(), 0), x.max())


def test_auto_clips_long_tails() -> None:
    x = sample("student")
    hist = Histogram.of(x)
    assert auto(hist, **U8) == mse(hist, **U8, clipping=2.0)
    assert mse(hist, **U8)[1] < auto(hist, **U8)[1] < 0.9 * x.max()
    wide = Histogram.of(np.random.default_rng(2).uniform(-1, 1, 100_000).astype(np.float32))
    assert auto(wide, **U8) == minmax(wide, **U8)


def test_mse_on_sixteen_bits_is_minmax_to_a_hair() -> None:
    x = sample("normal")
    np.testing.assert_allclose(mse(Histogram.of(x), **S16), (x.min(), x.max()), rtol=1e-3)


def divergence(counts: F64, outliers: float, kept: int, levels: int) -> float:
    """KL(P || Q) of one threshold, written out bin by bin."""
    p = counts[:kept].copy()
    p[-1] += counts[kept:].sum() + outliers
    q = np.zeros(kept)
    for cell in range(levels):
        start, stop = kept * cell // levels, kept * (cell + 1) // levels
        filled = [i for i in range(start, stop) if p[i] > 0]
        for i in filled:
            q[i] = max(counts[start:stop].sum(), 1e-4 if cell == levels - 1 else 0) / len(filled)
    p, q = p / p.sum(), q / counts[:kept].sum()
    return float(sum(a * np.log(a / b) if b > 0 else np.inf for a, b in zip(p, q, strict=True) if a > 0))


@pytest.mark.parametrize("levels", [8, 32])
@pytest.mark.parametrize("outliers", [0.0, 20.0])
def test_entropy_search_equals_the_plain_loop(levels: int, outliers: float) -> None:
    random = np.random.default_rng(3)
    for _ in range(6):
        counts = random.poisson(400 * np.exp(-np.arange(256) / 30)).astype(np.float64)
        total = counts.sum() + outliers
        tried = {
            kept: divergence(counts, outliers, kept, levels)
            for kept in [*range(256, levels - 1, -4)]
            if counts[kept:].sum() + outliers <= 0.01 * total
        }
        wanted = min(tried.values(), default=np.inf)
        assert tried.get(_best_threshold(counts, outliers, levels), np.inf) == pytest.approx(wanted, rel=1e-9)


def test_entropy_sees_the_bulk_beside_far_outliers() -> None:
    x = np.append(sample("laplace"), np.full(40, 5000.0, np.float32))
    low, high = entropy(Histogram.of(x), **S8)
    assert 4 < max(-low, high) < 20


def test_entropy_keeps_data_far_from_zero() -> None:
    x = sample("normal") + 10
    assert entropy(Histogram.of(x), **U8)[1] > np.percentile(x, 98.9)


def test_entropy_leaves_fine_grids_alone() -> None:
    hist = Histogram.of(sample("student"))
    assert entropy(hist, **S16) == minmax(hist, **S16)


@pytest.mark.parametrize("name", METHODS)
def test_speed(name: str) -> None:
    hist = Histogram.of(sample("student", 1_000_000))
    best = np.inf
    for _ in range(5):
        start = time.thread_time()  # what else runs does not count
        METHODS[name](hist, **U8)
        best = min(best, time.thread_time() - start)
    # 5 ms, and 20 ms for entropy, on a quiet machine; tripled for a busy one.
    assert best < (0.06 if name == "entropy" else 0.015)


def test_a_range_is_searched_once_for_each_content(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def counted(hist: Histogram, *, qmin: int, qmax: int, symmetric: bool) -> tuple[float, float]:
        calls.append("mse")
        return mse(hist, qmin=qmin, qmax=qmax, symmetric=symmetric)

    monkeypatch.setitem(METHODS, "mse", counted)
    monkeypatch.setattr(ranges, "_KNOWN", {})
    x = np.random.default_rng(5).normal(size=4000).astype(np.float32)
    first, again, other = (Histogram.of(values) for values in (x, x[::-1], x * 1.5))
    grid = {"qmin": 0, "qmax": 255, "symmetric": False}
    assert range_of("mse", first, **grid) == range_of("mse", again, **grid) == mse(first, **grid)
    assert len(calls) == 1
    assert range_of("mse", other, **grid) != range_of("mse", first, **grid)
    range_of("mse", first, qmin=-127, qmax=127, symmetric=True)
    assert len(calls) == 3
    monkeypatch.setattr(ranges, "_MANY", 2)
    assert range_of("minmax", first, **grid) == (first.minimum, first.maximum) and len(ranges._KNOWN) == 1
