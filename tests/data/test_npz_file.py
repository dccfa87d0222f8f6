"""One `.npz`: the rule of the first axis, streaming, and files that lie."""

from __future__ import annotations

import hashlib
import io
import struct
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qcompiler.data import InputInfo, open_source
from qcompiler.errors import DataError, UsageError

F32, I64 = np.dtype(np.float32), np.dtype(np.int64)
IMAGE = InputInfo("x", F32, ("N", 3, 4, 4))
IDS = InputInfo("ids", I64, ("N", "T"))
MASK = InputInfo("mask", I64, ("N", "T"))


def values(*shape: int) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def refusal(spec: object, *inputs: InputInfo) -> str:
    """The one line with which opening and reading `spec` ends."""
    with pytest.raises(DataError) as caught:
        list(open_source(spec, inputs))  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_samples_are_rows_of_batch_one(tmp_path: Path, save: object) -> None:
    data, labels = values(5, 3, 4, 4), np.arange(5) * 2
    save(tmp_path / "calib.npz", x=data, labels=labels)  # type: ignore[operator]
    source = open_source(tmp_path / "calib.npz", [IMAGE])
    assert (source.count, source.has_labels, source.description) == (5, True, "npz file calib.npz")
    for _ in range(2):
        samples = list(source)
        assert [sample.name for sample in samples] == [f"calib.npz[{i}]" for i in range(5)]
        assert [sample.label for sample in samples] == [0, 2, 4, 6, 8]
        assert all(type(sample.label) is int for sample in samples)
        for i, sample in enumerate(samples):
            np.testing.assert_array_equal(sample.feed["x"], data[i : i + 1])


def test_one_axis_more_than_the_input_is_taken_away(tmp_path: Path) -> None:
    state, rate = values(3, 2, 1, 8), np.array([8000, 16000, 8000])
    np.savez(tmp_path / "d.npz", state=state, rate=rate)
    inputs = [InputInfo("state", F32, (2, "batch", 8)), InputInfo("rate", I64, ())]
    samples = list(open_source(tmp_path / "d.npz", inputs))
    np.testing.assert_array_equal([s.feed["state"] for s in samples], state)
    assert [s.feed["rate"].shape for s in samples] == [(), (), ()]
    assert [int(s.feed["rate"]) for s in samples] == [8000, 16000, 8000]


@pytest.mark.parametrize(("first", "shape"), [(1, (1, 2)), (None, (1, 2)), ("N", (1, 2)), (3, (3, 2))])
def test_the_first_size_of_the_model_says_how_many_rows_a_sample_has(
    first: int | str | None, shape: tuple[int, ...]
) -> None:
    data = values(7, 2)
    samples = list(open_source({"x": data, "labels": np.arange(7)}, [InputInfo("x", F32, (first, 2))]))
    assert len(samples) == 7 // shape[0]
    assert {sample.feed["x"].shape for sample in samples} == {shape}
    np.testing.assert_array_equal(np.concatenate([s.feed["x"] for s in samples]), data[: len(samples) * shape[0]])
    labels = [np.asarray(s.label).reshape(-1) for s in samples]
    np.testing.assert_array_equal(np.concatenate(labels), np.arange(len(samples) * shape[0]))


def test_unknown_rank_gives_rows_with_their_axis() -> None:
    samples = list(open_source({"x": values(3, 5)}, [InputInfo("x", F32, None)]))
    assert [s.feed["x"].shape for s in samples] == [(1, 5)] * 3


def test_labels_that_are_not_classes_stay_arrays() -> None:
    samples = list(open_source({"x": values(2, 3), "labels": values(2, 4)}, [InputInfo("x", F32, ("N", 3))]))
    np.testing.assert_array_equal(samples[1].label, values(2, 4)[1])
    score = next(iter(open_source({"x": values(1, 3), "label": np.array([0.5])}, [InputInfo("x", F32, ("N", 3))])))
    assert isinstance(score.label, np.ndarray) and float(score.label) == 0.5


def test_an_input_named_labels_is_an_input() -> None:
    inputs = [InputInfo("x", F32, ("N", 3)), InputInfo("labels", I64, ("N",))]
    source = open_source({"x": values(2, 3), "labels": np.array([4, 5])}, inputs)
    assert not source.has_labels
    assert [s.feed["labels"].tolist() for s in source] == [[4], [5]]


def test_limit_takes_the_first_samples(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=values(9, 3, 4, 4))
    source = open_source(tmp_path / "d.npz", [IMAGE], limit=4)
    assert source.count == 4
    assert [s.name for s in source] == [f"d.npz[{i}]" for i in range(4)]
    assert open_source(tmp_path / "d.npz", [IMAGE], limit=40).count == 9
    with pytest.raises(UsageError, match="at least 1, not 0"):
        open_source(tmp_path / "d.npz", [IMAGE], limit=0)


def test_fingerprint_is_of_the_content_not_of_the_form(tmp_path: Path) -> None:
    data = values(4, 3, 4, 4)
    np.savez(tmp_path / "a.npz", x=data)
    np.savez_compressed(tmp_path / "b.npz", x=data.astype(">f8"))
    forms = [tmp_path / "a.npz", tmp_path / "b.npz", {"x": data}, lambda: ({"x": row[None]} for row in data)]
    prints = {open_source(form, [IMAGE]).fingerprint() for form in forms}
    assert len(prints) == 1
    assert len(prints.copy().pop()) == 64
    changed = data.copy()
    changed[3, 2, 3, 3] += 1
    others = [
        open_source({"x": changed}, [IMAGE]),
        open_source({"x": data[::-1]}, [IMAGE]),
        open_source({"x": data, "labels": np.arange(4)}, [IMAGE]),
        open_source({"x": data}, [IMAGE], limit=3),
    ]
    assert len(prints | {source.fingerprint() for source in others}) == 5


def test_fingerprint_as_documented() -> None:
    """A cache key: written out here by hand, so that it is not changed by accident."""
    source = open_source({"x": np.float32([[1, 2]]), "labels": np.array([3])}, [InputInfo("x", F32, ("N", 2))])
    head, label = b"'x' float32 (1, 2)", b"'' int64 ()"
    content = (
        *(len(head).to_bytes(8, "little"), head, struct.pack("<2f", 1, 2)),
        *(len(label).to_bytes(8, "little"), label, struct.pack("<q", 3)),
    )
    assert source.fingerprint() == hashlib.sha256(b"".join(content)).hexdigest()


def test_wrong_names() -> None:
    text = refusal({"pixels": values(2, 3, 4, 4), "x": values(2, 3, 4, 4)}, IMAGE)
    assert text == "data: 'pixels': no such input in the model (the model takes 'x')"
    text = refusal({"ids": np.ones((2, 3), int)}, IDS, MASK)
    assert text == "data: nothing is given for input 'mask' (the model takes 'ids', 'mask')"


def test_counts_that_differ() -> None:
    text = refusal({"ids": np.ones((4, 3), int), "mask": np.ones((3, 3), int)}, IDS, MASK)
    assert text == "data: 'ids' holds 4 samples and 'mask' 3"
    text = refusal({"x": values(2, 3, 4, 4), "labels": np.arange(3)}, IMAGE)
    assert text == "data: has 2 samples but its labels have shape (3,)"


def test_shapes_that_do_not_fit() -> None:
    text = refusal({"x": values(2, 3, 5, 4)}, IMAGE)
    assert text == "data: input 'x' takes shape (N, 3, 4, 4), but the data has (1, 3, 5, 4)"
    text = refusal({"x": values(2, 3)}, IMAGE)
    assert text == (
        "data: input 'x' takes shape (N, 3, 4, 4), but the data has (2, 3)"
        " (the first axis runs over the samples: (samples, N, 3, 4, 4))"
    )
    text = refusal({"x": values(3, 2)}, InputInfo("x", F32, (8, 2)))
    assert text == "data: input 'x' has 3 rows, but the model takes 8 at a time"
    text = refusal({"ids": np.ones((2, 3), int), "mask": np.ones((2, 4), int)}, IDS, MASK)
    assert text == "data: size 'T' is 3 in input 'ids' and 4 in input 'mask'"


def test_empty() -> None:
    assert refusal({"x": values(0, 3, 4, 4)}, IMAGE) == "data: holds no samples: 'x' has shape (0, 3, 4, 4)"
    assert refusal({"ids": np.ones((2, 0), int)}, IDS) == "data: input 'ids' is empty: its shape is (1, 0)"


def test_not_finite_names_the_sample(tmp_path: Path) -> None:
    data = values(3, 3, 4, 4)
    data[2, 1, 0, 3] = np.nan
    np.savez(tmp_path / "calib.npz", x=data)
    assert refusal(tmp_path / "calib.npz", IMAGE) == "calib.npz[2]: input 'x' holds nan at [0, 1, 0, 3]"
    data[2, 1, 0, 3] = -np.inf
    assert "data[2]: input 'x' holds -inf at [0, 1, 0, 3] (masks need" in refusal({"x": data}, IMAGE)


def test_types_are_converted_only_where_nothing_is_lost() -> None:
    wide, narrow = InputInfo("x", F32, ("N", 2)), InputInfo("x", np.dtype(np.int8), ("N", 2))
    sample = next(iter(open_source({"x": np.array([[0.1, 2.0]])}, [wide])))
    assert sample.feed["x"].dtype == F32
    np.testing.assert_array_equal(sample.feed["x"], np.float32([[0.1, 2.0]]))
    sample = next(iter(open_source({"x": np.array([[-128, 127]])}, [narrow])))
    assert sample.feed["x"].dtype == np.int8 and sample.feed["x"].tolist() == [[-128, 127]]
    text = refusal({"x": np.array([[1, 2], [3, 128]])}, narrow)
    assert text == "data[1]: input 'x' takes int8, which cannot hold the value 128"
    assert refusal({"x": np.array([[1e300, 0]])}, wide) == "data[0]: input 'x' holds values too large for float32"
    assert refusal({"x": np.ones((1, 2), np.uint8)}, wide) == (
        "data: input 'x' takes float32, but the data is uint8 (convert and normalise it as the model's training did)"
    )
    assert refusal({"x": np.ones((1, 2))}, narrow) == "data: input 'x' takes int8, but the data is float64"


def test_types_beyond_numpy() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    for name in ("bfloat16", "float8_e4m3fn"):
        info = InputInfo("x", np.dtype(getattr(ml_dtypes, name)), ("N", 2))
        sample = next(iter(open_source({"x": np.float32([[1.5, -2]])}, [info])))
        assert sample.feed["x"].dtype == info.dtype
        np.testing.assert_array_equal(sample.feed["x"].astype(np.float32), [[1.5, -2]])
    assert "too large for float8_e4m3fn" in refusal({"x": np.float32([[1e6, 0]])}, info)
    small = InputInfo("x", np.dtype(ml_dtypes.uint4), ("N", 2))
    assert next(iter(open_source({"x": np.array([[0, 15]])}, [small]))).feed["x"].astype(int).tolist() == [[0, 15]]
    assert "takes uint4, which cannot hold the value 16" in refusal({"x": np.array([[0, 16]])}, small)


def test_text_inputs(tmp_path: Path) -> None:
    info = InputInfo("text", np.dtype(object), ("N",))
    np.savez(tmp_path / "d.npz", text=np.array(["eins", "zwei"]))
    source = open_source(tmp_path / "d.npz", [info])
    assert [s.feed["text"].tolist() for s in source] == [["eins"], ["zwei"]]
    assert source.fingerprint() == open_source({"text": np.array(["eins", "zwei"])}, [info]).fingerprint()


# ---- files that are damaged or lie


def test_not_an_archive(tmp_path: Path) -> None:
    path = tmp_path / "d.npz"
    path.write_bytes(b"")
    assert refusal(path, IMAGE).startswith(f"{path}: cannot be read: ")
    np.save(path.open("wb"), values(2, 3, 4, 4))
    assert "cannot be read: File is not a zip file" in refusal(path, IMAGE)
    assert "there is no such file or folder" in refusal(tmp_path / "none.npz", IMAGE)
    (tmp_path / "d.npy").write_bytes(b"")
    assert "'.npy' is not known as data (data is an .npz," in refusal(tmp_path / "d.npy", IMAGE)


def test_pickles_are_never_loaded(tmp_path: Path) -> None:
    path = tmp_path / "d.npz"
    np.savez(path, x=np.array([{"a": 1}], object))
    assert refusal(path, IMAGE) == f"{path}['x']: holds Python objects, which are never unpickled (save numbers)"


def test_other_members_and_orders(tmp_path: Path) -> None:
    path = tmp_path / "d.npz"
    np.savez(path, x=np.asfortranarray(values(2, 3, 4, 4)))
    assert refusal(path, IMAGE) == f"{path}['x']: is in Fortran order (save np.ascontiguousarray(array))"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert f"{path}: holds 'readme.txt', which is not an .npy array" in refusal(path, IMAGE)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("x.npy", npy(values(2, 3, 4, 4)))
    assert "compressed by another method than deflate" in refusal(path, IMAGE)
    np.savez(path, x=np.zeros(2, [("a", "f4")]))
    assert "which no model takes" in refusal(path, IMAGE)


def npy_header(shape: tuple[int, ...]) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return buffer.getvalue()


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def test_the_shape_must_agree_with_the_archive(tmp_path: Path) -> None:
    """A header that claims a terabyte takes no memory."""
    path = tmp_path / "d.npz"
    header = npy_header((2, 3, 4, 40_000_000_000))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", header + values(2, 3, 4, 4).tobytes())
    text = refusal(path, IMAGE)
    assert text == f"{path}['x']: claims 3840000000000 bytes by its shape, but the archive holds 384"


def test_the_archive_must_be_able_to_hold_what_it_claims(tmp_path: Path) -> None:
    """The directory is changed to claim a terabyte after deflate, and a header that agrees."""
    path = tmp_path / "d.npz"
    header = npy_header((1, 3, 4, 20_000_000))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", header)
    raw = bytearray(path.read_bytes())
    directory = raw.index(b"PK\x01\x02")
    struct.pack_into("<I", raw, directory + 24, len(header) + 960_000_000)
    path.write_bytes(raw)
    tracemalloc.start()
    text = refusal(path, IMAGE)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert text.endswith("bytes, which its archive cannot hold")
    assert peak < 2e6


def test_a_wrong_checksum_is_found(tmp_path: Path) -> None:
    path = tmp_path / "d.npz"
    np.savez(path, x=values(2, 3, 4, 4))
    raw = bytearray(path.read_bytes())
    raw[raw.index(npy(values(2, 3, 4, 4))) + 128 + 100] ^= 1
    path.write_bytes(raw)
    assert "Bad CRC-32" in refusal(path, IMAGE)


def archive_bytes(compressed: bool) -> bytes:
    rng = np.random.default_rng(7)
    arrays = {
        "x": rng.normal(size=(3, 3, 4, 4)).astype(np.float32),
        "ids": rng.integers(0, 9, (3, 5)),
        "text": np.array(["ab", "c", "d"]),
        "labels": np.arange(3),
    }
    buffer = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


ARCHIVES = [archive_bytes(False), archive_bytes(True)]
FUZZED = [IMAGE, IDS, InputInfo("text", np.dtype(object), ("N",))]


def only_data_errors(path: Path) -> None:
    try:
        list(open_source(path, FUZZED))
    except DataError as error:
        assert "\n" not in str(error)


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    which=st.sampled_from(ARCHIVES),
    cut=st.one_of(st.none(), st.floats(0, 1)),
    edits=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=4),
)
def test_mutated_archives_raise_only_data_errors(
    tmp_path: Path, which: bytes, cut: float | None, edits: list[tuple[float, int]]
) -> None:
    raw = bytearray(which)
    for place, value in edits:
        raw[int(place * len(raw))] = value
    path = tmp_path / "fuzzed.npz"
    path.write_bytes(raw if cut is None else raw[: int(cut * len(raw))])
    only_data_errors(path)


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    header=st.one_of(
        st.binary(max_size=80),
        st.builds(
            lambda descr, order, shape: repr({"descr": descr, "fortran_order": order, "shape": shape}).encode("latin1"),
            st.sampled_from(["<f4", ">f4", "<U2", "|O", "|V0", "<M8[s]", "f4,f4", "|S0", "a", "", 3, ("<f4", (2,))]),
            st.sampled_from([False, True, 1, None]),
            st.one_of(st.none(), st.lists(st.integers(-2, 2**70), max_size=5).map(tuple)),
        ),
        st.sampled_from([b"(" * 5000, b"{'descr':" * 3000, b"[" * 9000, b"{'descr': '<f4', 'shape': (1L,)}", b"'''"]),
    ),
    version=st.sampled_from([(1, 0), (2, 0), (3, 0), (4, 0), (0, 0)]),
    body=st.binary(max_size=64),
)
def test_mutated_headers_raise_only_data_errors(
    tmp_path: Path, header: bytes, version: tuple[int, int], body: bytes
) -> None:
    size = struct.pack("<H" if version == (1, 0) else "<I", len(header))
    path = tmp_path / "fuzzed.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", b"\x93NUMPY" + bytes(version) + size + header + body)
    only_data_errors(path)


def test_every_truncation_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "cut.npz"
    for length in range(0, len(ARCHIVES[1]), 7):
        path.write_bytes(ARCHIVES[1][:length])
        with pytest.raises(DataError):
            list(open_source(path, FUZZED))


# ---- memory


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_memory_does_not_grow_with_the_number_of_samples(tmp_path: Path, method: int) -> None:
    """200 MB deflated (50 MB stored) of 600 kB samples: less than 30 MB at any time, and the same for half of it."""
    rows = 334 if method == zipfile.ZIP_DEFLATED else 84
    row = np.full((3, 224, 224), 0.5, np.float32).tobytes()
    path = tmp_path / "big.npz"
    with (
        zipfile.ZipFile(path, "w", method, compresslevel=1) as archive,
        archive.open("x.npy", "w", force_zip64=True) as member,
    ):
        member.write(npy_header((rows, 3, 224, 224)))
        for _ in range(rows):
            member.write(row)

    def peak(limit: int) -> int:
        tracemalloc.start()
        seen = sum(int(s.feed["x"][0, 0, 0, 0] == 0.5) for s in open_source(path, [info], limit=limit))
        result = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert seen == limit
        return result

    info = InputInfo("x", F32, ("N", 3, 224, 224))
    whole, half = peak(rows), peak(rows // 2)
    assert whole < 30e6
    assert whole < 1.1 * half


def test_zlib_limit_is_what_the_code_believes() -> None:
    assert len(bytes(10**7)) / len(zlib.compress(bytes(10**7), 9)) < 1032
