"""Collected statistics: exact, the same for every budget, bounded in memory; faults name tensor and sample."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from qcompiler import ir
from qcompiler.analysis import HISTOGRAM, ChannelAbsMaxKind, Runner, Stats, collect
from qcompiler.analysis.stats_file import to_bytes
from qcompiler.analysis.tap import Seen, Tap
from qcompiler.data import Sample
from qcompiler.errors import DataError
from qcompiler.numerics import Histogram
from tests.graphs import parse

MLP = """
g (float[N,6] x) => (float[N,4] y) {
    a = MatMul(x, w0)
    b = Relu(a)
    c = MatMul(b, w1)
    d = Mul(c, k)
    i = Cast<to = 7>(d)
    y = Softmax(d)
}
"""
ALL = ("x", "a", "b", "c", "d", "y")


def mlp() -> ir.Model:
    rng = np.random.default_rng(0)
    weights = {"w0": rng.normal(size=(6, 8)), "w1": rng.normal(size=(8, 4)), "k": np.array(0.3)}
    return parse(MLP, {name: array.astype(np.float32) for name, array in weights.items()})


@dataclass(frozen=True)
class Samples:
    """A source; shapes vary with `rows`."""

    feeds: Sequence[dict[str, np.ndarray]]

    @property
    def count(self) -> int:
        return len(self.feeds)

    def __iter__(self) -> Iterator[Sample]:
        return (Sample(feed, None, f"s[{i}]") for i, feed in enumerate(self.feeds))


def samples(count: int = 5, rows: Sequence[int] = (3,), seed: int = 1) -> Samples:
    rng = np.random.default_rng(seed)
    return Samples([{"x": rng.normal(size=(rows[i % len(rows)], 6)).astype(np.float32)} for i in range(count)])


def direct(model: ir.Model, source: Samples, names: Sequence[str]) -> dict[str, list[np.ndarray]]:
    """The same tensors, from ONNX Runtime without optimisation."""
    from qcompiler.analysis import SessionConfig
    from qcompiler.analysis.observe import observed

    seen = observed(model, names)
    runner = Runner(seen.payload, SessionConfig("off"))
    found: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for sample in source:
        values = runner.run(sample.feed)
        for name in names:
            found[name].append(values[seen.outputs[name]] if name != "x" else sample.feed["x"])
    return found


def test_histograms_shapes_and_counts() -> None:
    model, source = mlp(), samples()
    stats = collect(model, source, dict.fromkeys(ALL, (HISTOGRAM,)))
    assert (stats.samples, list(stats), dict(stats.unseen)) == (5, sorted(ALL), {})
    for name, arrays in direct(model, source, ALL).items():
        wanted, got = Histogram.of(np.concatenate([a.reshape(-1) for a in arrays])), stats.histogram(name)
        assert got.total == wanted.total == sum(a.size for a in arrays)
        np.testing.assert_allclose((got.minimum, got.maximum), (wanted.minimum, wanted.maximum), rtol=1e-5)
        assert np.abs(got.counts - wanted.counts).sum() <= 2, "at most one value may round into the next bin"
    assert stats.histogram("x").same(Histogram.of(np.stack([feed["x"] for feed in source.feeds])))
    assert stats["b"].shape == (3, 8) and stats["b"].elements == 24
    assert stats.histogram("b").minimum == 0.0


def test_channel_maxima() -> None:
    model, source = mlp(), samples()
    stats = collect(model, source, {"a": [ChannelAbsMaxKind(-1), HISTOGRAM], "x": [ChannelAbsMaxKind(axis=0)]})
    values = np.stack(direct(model, source, ["a"])["a"])
    np.testing.assert_allclose(stats.value("a", ChannelAbsMaxKind(-1)).absmax, np.abs(values).max((0, 1)), rtol=1e-5)
    rows = np.abs(np.stack([feed["x"] for feed in source.feeds])).max((0, 2))
    np.testing.assert_array_equal(stats.value("x", ChannelAbsMaxKind(0)).absmax, rows)
    with pytest.raises(DataError, match=r"^x: statistic histogram was not collected"):
        stats.histogram("x")


@pytest.mark.parametrize("budget", [1, 1 << 20, 3 << 20])
def test_every_budget_gives_the_same_bytes(budget: int) -> None:
    model, wanted = mlp(), dict.fromkeys(ALL, (HISTOGRAM,))
    source = samples(6, rows=(2, 5, 3))
    whole = to_bytes(collect(model, source, wanted))
    assert to_bytes(collect(model, source, wanted, memory_budget=budget)) == whole
    assert to_bytes(collect(model, source, wanted)) == whole


def events(budget: int, source: Samples) -> list[tuple[str, tuple[str, ...]]]:
    found: list[tuple[str, tuple[str, ...]]] = []
    for event in Tap(mlp(), source, ALL, budget):
        names = tuple(event.values) if isinstance(event, Seen) else event.names
        found.append((type(event).__name__, names))
    return found


def test_groups_fit_the_budget() -> None:
    # Per row: a and b 8 values, c, d and y 4, of 4 bytes; x comes from the feed and takes nothing.
    assert events(2 * 64 + 2 * 16, samples(1, rows=(2,))) == [
        ("Seen", ("x", "a", "b", "c")),
        ("Complete", ("x", "a", "b", "c")),
        ("Seen", ("d", "y")),
        ("Complete", ("d", "y")),
    ]


def test_a_group_that_outgrows_the_budget_sheds_its_last_tensors() -> None:
    assert events(160, samples(3, rows=(1, 2, 1))) == [
        ("Seen", ALL),
        ("Shed", ("d", "y")),
        ("Seen", ("x", "a", "b", "c")),
        ("Seen", ("x", "a", "b", "c")),
        ("Complete", ("x", "a", "b", "c")),
        ("Seen", ("d", "y")),
        ("Seen", ("d", "y")),
        ("Seen", ("d", "y")),
        ("Complete", ("d", "y")),
    ]


def test_sizes_that_only_running_tells() -> None:
    model = parse("g (float[N] x, int64[R] k) => (float[A,B] y) { a = Expand(x, k)  b = Neg(a)  y = Abs(b) }")
    feeds = [{"x": np.ones(1, np.float32), "k": np.array([rows, 10])} for rows in (2, 2, 2)]
    groups = [tuple(e.values) for e in Tap(model, Samples(feeds[:1]), "aby", 2 * 80) if isinstance(e, Seen)]
    assert groups == [("a", "b"), ("y",)]


def test_shapes_that_vary() -> None:
    stats = collect(mlp(), samples(4, rows=(2, 7)), {"a": [HISTOGRAM]})
    assert (stats["a"].shape, stats["a"].elements, stats.histogram("a").total) == ((None, 8), 56, 8 * 18)


@pytest.mark.parametrize("budget", [512 << 20, 1])
@pytest.mark.parametrize(("value", "words"), [(np.nan, "8 NaN"), (np.inf, "8 infinite values")])
def test_nan_names_the_first_tensor_and_the_sample(value: float, words: str, budget: int) -> None:
    source = samples(6)
    source.feeds[3]["x"][1, 2] = value
    source.feeds[4]["x"][:] = np.nan
    with pytest.raises(DataError) as caught:
        collect(mlp(), source, dict.fromkeys(["y", "b", "a"], (HISTOGRAM,)), memory_budget=budget)
    assert str(caught.value).startswith(f"s[3]: tensor 'a' holds {words} among 24 values (")


def test_a_fault_in_an_early_sample_comes_before_one_in_a_later() -> None:
    """The later sample fails in ONNX Runtime while the earlier one is still being counted."""
    source = samples(3)
    source.feeds[1]["x"][0, 0] = np.nan
    source.feeds[2]["x"] = np.zeros((3, 5), np.float32)
    with pytest.raises(DataError, match=r"^s\[1\]: tensor 'a' holds 8 NaN"):
        collect(mlp(), source, {"a": [HISTOGRAM]})


def test_tensors_without_floats_and_untaken_branches_are_left_out() -> None:
    model = parse(
        """
        g (bool c, float[N] x) => (float[N] y) {
            n = Shape(x)
            y = If (c) <
                then_branch = left () => (float[N] l) { l = Abs(x) },
                else_branch = right () => (float[N] r) { e = Neg(x)  r = Exp(e) }
            >
        }"""
    )
    feeds = [{"c": np.array(True), "x": np.float32([1, -3])}, {"c": np.array(True), "x": np.float32([2])}]
    stats = collect(model, Samples(feeds), dict.fromkeys(["c", "n", "l", "e", "ghost"], (HISTOGRAM,)))
    assert dict(stats.unseen) == {
        "c": "it does not hold floating-point numbers",
        "e": "its branch was not taken by any sample",
        "ghost": "the model has no such tensor",
        "n": "it does not hold floating-point numbers",
    }
    assert stats.histogram("l").same(Histogram.of([1, 3, 2]))
    with pytest.raises(DataError, match=r"^e: no statistics: its branch was not taken by any sample"):
        stats.histogram("e")


def test_half_precision_tensors_are_counted_as_float32() -> None:
    model = parse("g (float16[N] x) => (float16[N] y) { y = Neg(x) }")
    stats = collect(model, Samples([{"x": np.float16([1, 2.5])}]), {"y": [HISTOGRAM]})
    assert stats.histogram("y").same(Histogram.of([-1, -2.5]))


def test_no_samples() -> None:
    with pytest.raises(DataError, match=r"^data: holds no samples"):
        collect(mlp(), Samples([]), {"a": [HISTOGRAM]})


def test_progress_tells_the_total_when_one_reading_is_enough() -> None:
    heard: list[tuple[int, int | None]] = []
    collect(mlp(), samples(3), {"a": [HISTOGRAM]}, progress=lambda done, total: heard.append((done, total)))
    assert heard == [(1, 3), (2, 3), (3, 3)]
    heard.clear()
    wanted = dict.fromkeys(["a", "b"], (HISTOGRAM,))
    collect(mlp(), samples(2), wanted, memory_budget=1, progress=lambda done, total: heard.append((done, total)))
    assert heard == [(1, None), (2, None), (3, None), (4, None)]


def test_halves_merge_to_the_whole() -> None:
    model, source, wanted = mlp(), samples(6, rows=(2, 3)), dict.fromkeys(ALL, (HISTOGRAM, ChannelAbsMaxKind(-1)))
    parts: list[Stats] = [collect(model, Samples(source.feeds[i::2]), wanted) for i in (0, 1)]
    whole = to_bytes(collect(model, source, wanted))
    assert to_bytes(parts[0].merge(parts[1])) == whole
    assert to_bytes(parts[1].merge(parts[0])) == whole


MEMORY = """
import resource, sys
import numpy as np
from tests.graphs import parse
from qcompiler.analysis import HISTOGRAM, collect
from qcompiler.data import Sample

model = parse("g (float[1,8,256,256] x) => (float[1,8,256,256] y) { a = Neg(x)  b = Exp(a)  c = Sqrt(b)  y = Abs(c) }")

class Source:
    count = int(sys.argv[1])
    def __iter__(self):
        for i in range(self.count):
            yield Sample({"x": np.full((1, 8, 256, 256), i / 1000, np.float32)}, None, str(i))

stats = collect(model, Source(), dict.fromkeys("xabcy", (HISTOGRAM,)))
assert stats.histogram("a").total == Source.count << 19
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_does_not_grow_with_the_number_of_samples() -> None:
    def peak(count: int) -> int:
        done = subprocess.run(
            [sys.executable, "-c", MEMORY, str(count)], capture_output=True, text=True, check=True, timeout=120
        )
        return int(done.stdout)

    # Eight times the samples; one sample's tensors are 10 MiB.
    assert peak(256) < 1.1 * peak(32)
