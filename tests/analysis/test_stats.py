"""Statistics as values and as files: merging in any order, and everything that a file can be instead."""

from __future__ import annotations

import itertools
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.analysis import HISTOGRAM, ChannelAbsMaxKind, Kind, Stats, TensorStats
from qcompiler.analysis.stats_file import to_bytes
from qcompiler.errors import DataError, InternalError, OutputError
from qcompiler.numerics import ChannelAbsMax, Histogram

MODEL = "0123456789abcdef" * 4
ABSMAX = ChannelAbsMaxKind(1)


def tensor(values: np.ndarray) -> TensorStats:
    packed = {
        HISTOGRAM: HISTOGRAM.pack(Histogram.of(values)),
        ABSMAX: ABSMAX.pack(ChannelAbsMax(1).update(values)),
    }
    return TensorStats(values.shape, values.size, packed)


def stats(seed: int, names: str = "ab", samples: int = 2, **options: Any) -> Stats:
    rng = np.random.default_rng(seed)
    tensors = {name: tensor(rng.normal(size=(1 + seed % 3, 4)).astype(np.float32)) for name in names}
    return Stats(MODEL, samples, tensors, **options)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "stats.npz"
    stats(0, unseen={"z": "it is a constant"}).save(file)
    return file


def test_round_trip(path: Path) -> None:
    before, after = stats(0, unseen={"z": "it is a constant"}), Stats.load(path, MODEL)
    assert to_bytes(after) == to_bytes(before) == path.read_bytes()
    assert (after.model, after.samples, list(after), dict(after.unseen)) == (MODEL, 2, ["a", "b"], dict(before.unseen))
    assert after["a"].shape == (1, 4) and after["a"].elements == 4
    assert after.histogram("a").same(before.histogram("a"))
    np.testing.assert_array_equal(after.value("a", ABSMAX).absmax, before.value("a", ABSMAX).absmax)


def test_the_file_is_small_sorted_and_carries_no_time(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        infos = archive.infolist()
    assert {info.date_time for info in infos} == {(1980, 1, 1, 0, 0, 0)}
    assert [info.filename for info in infos] == ["meta.npy"] + [
        f"0000{i}.{rest}.npy"
        for i in (0, 1)
        for rest in ("channel-absmax(axis=1).absmax", "histogram.bins", "histogram.counts", "histogram.range")
    ]
    assert path.stat().st_size < 4000
    with np.load(path, allow_pickle=False) as archive:
        assert json.loads(archive["meta"].tobytes())["tool"].startswith("qcompiler ")


def test_counts_take_the_narrowest_type() -> None:
    for count, dtype in ((200, np.uint8), (300, np.uint16), (70000, np.uint32)):
        packed = HISTOGRAM.pack(Histogram.of(np.ones(count, np.float32)))
        assert packed["counts"].dtype == dtype
        assert HISTOGRAM.unpack(packed).same(Histogram.of(np.ones(count, np.float32)))


def test_merging_adds() -> None:
    merged = stats(0).merge(stats(1))
    assert merged.samples == 4
    assert merged.histogram("a").same(stats(0).histogram("a").merge(stats(1).histogram("a")))
    assert merged["a"].shape == (None, 4) and merged["a"].elements == 8


@settings(max_examples=25)
@given(st.lists(st.integers(0, 1000), min_size=3, max_size=3))
def test_merging_is_commutative_and_associative(seeds: list[int]) -> None:
    parts = [stats(seed) for seed in seeds]
    files = {to_bytes(a.merge(b).merge(c)) for a, b, c in itertools.permutations(parts)}
    files |= {to_bytes(a.merge(b.merge(c))) for a, b, c in itertools.permutations(parts)}
    assert len(files) == 1


def test_a_tensor_that_one_half_never_saw() -> None:
    half = stats(1, "a", unseen={"b": "its branch was not taken by any sample"})
    for merged in (stats(0).merge(half), half.merge(stats(0))):
        assert list(merged) == ["a", "b"] and not merged.unseen and merged.samples == 4
        assert merged.histogram("b").same(stats(0).histogram("b"))


def test_what_does_not_fit_is_not_merged() -> None:
    with pytest.raises(DataError, match=r"^b: only one of two statistics to merge covers this tensor"):
        stats(0).merge(stats(1, "a"))
    other = Stats("f" * 64, 1, stats(0).tensors)
    with pytest.raises(DataError, match=r"collected for another model \(ffffffffffff, not 0123456789ab\)"):
        stats(0).merge(other)
    plain = Stats(MODEL, 1, {"a": TensorStats((1,), 1, {}), "b": stats(0)["b"]})
    with pytest.raises(DataError, match="different statistics were collected"):
        stats(0).merge(plain)


def test_statistics_of_another_model_are_refused(path: Path) -> None:
    with pytest.raises(DataError, match=r"stats\.npz: the statistics were collected for another model") as caught:
        Stats.load(path, "e" * 64)
    assert "collect the statistics again" in str(caught.value)
    assert Stats.load(path).samples == 2


def test_a_tensor_that_was_not_asked_for() -> None:
    with pytest.raises(DataError, match=r"^q: no statistics: it was not among the tensors to observe"):
        stats(0).histogram("q")


def rewritten(path: Path, **changes: Any) -> Path:
    """The file with members replaced; None removes one."""
    with np.load(path) as archive:
        members = {**dict(archive), **changes}
    np.savez(path, **{name: values for name, values in members.items() if values is not None})
    return path


def meta(path: Path, **changes: Any) -> np.ndarray:
    with np.load(path) as archive:
        found = {**json.loads(archive["meta"].tobytes()), **changes}
    return np.frombuffer(json.dumps(found).encode(), np.uint8)


def test_damaged_files(path: Path, tmp_path: Path) -> None:
    whole = path.read_bytes()
    with pytest.raises(DataError, match="no such file"):
        Stats.load(tmp_path / "nothing.npz")
    for content in (b"", b"garbage", whole[: len(whole) // 2], whole[:-30]):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"stats\.npz"):
            Stats.load(path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"meta": None}, "is no file of statistics"),
        ({"meta": np.frombuffer(b"{]", np.uint8)}, "is damaged"),
        ({"meta": np.frombuffer(b"[]", np.uint8)}, "is damaged"),
        ({"00000.histogram.counts": None}, "is damaged"),
        ({"00000.histogram.bins": np.zeros(4, np.uint16)}, "is no histogram"),
        ({"00000.histogram.counts": np.ones(2, np.uint8)}, "is no histogram"),
        ({"00000.histogram.range": np.float64([2, 1])}, "holds a histogram without a range"),
        ({"00000.histogram.range": np.float64([np.nan, 1])}, "holds a histogram without a range"),
        ({"00000.channel-absmax(axis=1).absmax": np.float32([-1])}, "is no channel maximum"),
    ],
)
def test_contents_that_make_no_sense(path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        Stats.load(rewritten(path, **changes))


def test_versions_and_kinds_from_elsewhere(path: Path) -> None:
    rewritten(path, meta=meta(path, schema=2))
    with pytest.raises(DataError, match=r"has schema 2, this version reads 1"):
        Stats.load(path)
    entry = {"name": "a", "shape": [1], "elements": 1}
    for kind, options, words in (
        (
            "colour",
            {},
            r"unknown kind of statistic 'colour' \(known: channel-absmax, channel-histogram, channel-range, histogram",
        ),
        ("histogram", {"bins": 3}, r"statistic 'histogram' does not take the options"),
    ):
        observers = [{"kind": kind, "options": options, "arrays": []}]
        rewritten(path, meta=meta(path, schema=1, tensors=[{**entry, "observers": observers}]))
        with pytest.raises(DataError, match=words):
            Stats.load(path)


def test_random_damage_is_always_one_error(path: Path) -> None:
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    refused = 0
    for _ in range(200):
        content = bytearray(whole)
        for at in rng.integers(0, len(content), 3):
            content[at] ^= int(rng.integers(1, 256))
        path.write_bytes(content)
        try:
            Stats.load(path)
        except DataError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 150


def test_nothing_is_left_behind_where_the_file_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "stats.npz").mkdir()
    with pytest.raises(OutputError, match=r"stats\.npz: cannot be written: "):
        stats(0).save(tmp_path / "stats.npz")
    assert [file.name for file in tmp_path.iterdir()] == ["stats.npz"]
    with pytest.raises(OutputError, match="cannot be written: No such file or directory"):
        stats(0).save(tmp_path / "missing" / "stats.npz")


def test_a_kind_of_the_same_name_is_an_error() -> None:
    with pytest.raises(InternalError, match=r"qcompiler\.analysis\.kinds and .*test_stats both define .* 'histogram'"):

        @dataclass(frozen=True)
        class Mine(Kind):
            name: ClassVar[str] = "histogram"
