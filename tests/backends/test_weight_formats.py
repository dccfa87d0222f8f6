"""Formats of weights in blocks: what is packed comes back, kernels compute with it, and each compiles on its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator

from qcompiler import ir
from qcompiler.backends import get
from qcompiler.backends.base import configured
from qcompiler.backends.onnxruntime.unpack import Book, Unpacker, together
from qcompiler.backends.onnxruntime.weight_formats import FORMATS
from qcompiler.numerics.levels import NF4_BOOK
from qcompiler.passes.lower.materialise import Materialise
from qcompiler.passes.plan.encode_blocks import block_values
from qcompiler.pipeline import Pipeline
from qcompiler.quant import QSpec, QuantPlan
from qcompiler.quant.qtype import (
    BOOK2,
    BOOK3,
    BOOK4,
    E2M1,
    FP4_E2M1,
    FP8_E4M3,
    INT2,
    INT4,
    INT8,
    NF4,
    PALETTE4,
    PALETTE6,
    UINT2,
    UINT3,
    UINT4,
    UINT8,
)  # fmt: skip
from qcompiler.search.candidates import Candidate, Drafter
from qcompiler.search.on_disk import encoding_from, made_of
from qcompiler.search.weights_in_blocks import with_codes
from qcompiler.targets import Weight
from tests.cli.conftest import qcompile
from tests.graphs import parse, run

PAIRS = [(name, bits) for name, form in FORMATS.items() for bits in form.types]
TEXT = """g (float[n, WIDTH] x) => (float[n, OUT] y, float[n, 24] z) {
  m = Mul(x, gamma)
  y = MatMul(m, w)
  z = Gemm <transB = 1> (y, v, b)
}"""


def layers(seed: int, k: int = 80, m: int = 48) -> ir.Model:
    """Two layers whose weights have a heavy tail; widths need not be multiples of a block."""
    rng = np.random.default_rng(seed)
    values = {
        "gamma": 1 + rng.random(k), "w": rng.standard_t(4, (k, m)), "v": rng.standard_t(4, (24, m)),
        "b": rng.standard_normal(24),
    }  # fmt: skip
    text = TEXT.replace("WIDTH", str(k)).replace("OUT", str(m))
    return parse(text, {name: array.astype(np.float32) for name, array in values.items()})


def made(model: ir.Model, method: str = "mse", **options: object) -> Candidate:
    """The w4 candidate without data."""
    drafter = Drafter(model, configured(get("onnxruntime"), options), only_given=True)
    draft = with_codes(drafter.draft("w4"), None, method, 1 << 28, lambda *_: None)
    return drafter.candidate(draft, None, "auto", {})


def valued(found: Candidate) -> ir.Model:
    """The planned graph with the values that codes stand for in place of weights."""
    model = found.planned.copy()
    edit, nodes = ir.Editor(model, model.graph), {node.name: node for node in model.nodes}
    for site, decision in found.plan.quantized():
        assert decision.encoding is not None
        values = edit.constant(f"{site.tensor}_values", block_values(decision.encoding))
        edit.set_input(nodes[site.consumer], site.port, values)
    edit.drop_unused_constants()
    return model


def inputs(seed: int, k: int = 80) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(seed).standard_normal((5, k)).astype(np.float32)}


@pytest.mark.parametrize(("name", "bits"), PAIRS)
@given(seed=st.integers(0, 10**6), k=st.integers(1, 100), block=st.sampled_from([16, 32, 64]), symmetric=st.booleans())
@settings(max_examples=8, deadline=None)
def test_kernels_compute_with_what_codes_stand_for(
    name: str, bits: int, seed: int, k: int, block: int, symmetric: bool
) -> None:
    size = FORMATS[name].only or block
    options = {"format": name, "bits": bits, "block": size, "symmetric": symmetric, "accuracy_level": 0}
    found, feed = made(layers(seed, k), **options), inputs(seed, k)
    for optimize in (False, True):
        for got, wanted in zip(run(found.model, feed, optimize=optimize), run(valued(found), feed), strict=True):
            np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=1e-4 * np.abs(wanted).max())


@pytest.mark.parametrize(("name", "bits"), PAIRS)
@given(seed=st.integers(0, 10**6), k=st.integers(1, 100))
@settings(max_examples=5, deadline=None)
def test_the_reference_reads_the_same_values(name: str, bits: int, seed: int, k: int) -> None:
    """Standard ONNX, before ONNX Runtime's own operators take its place."""
    found = made(layers(seed, k), format=name, bits=bits)
    model = found.planned.copy()
    Pipeline().graph(model, [Materialise(found.plan)])
    model.opset = max(model.opset, 25 if bits == 2 else 0)  # the first with types of 2 bits
    assert {node.domain for node in model.nodes} <= {"", None}
    proto = model.to_proto()
    onnx.checker.check_model(proto, full_check=True)
    weights = {site.tensor: block_values(d.encoding) for site, d in found.plan.quantized() if d.encoding}
    asked = [f"{tensor}_dq" for tensor in weights]
    proto.graph.output.extend(onnx.ValueInfoProto(name=output) for output in asked)
    got = ReferenceEvaluator(proto).run(asked, inputs(seed, k))
    for values, wanted in zip(got, weights.values(), strict=True):
        np.testing.assert_array_equal(values, wanted)


@pytest.mark.parametrize(("name", "bits"), [pair for pair in PAIRS if pair[0] != "codebook"])
@given(seed=st.integers(0, 10**6), k=st.integers(1, 70))
@settings(max_examples=8, deadline=None)
def test_what_a_format_holds_it_gives_back(name: str, bits: int, seed: int, k: int) -> None:
    once = valued(made(layers(seed, k), "rtn", format=name, bits=bits, symmetric=True))
    twice = valued(made(once, "rtn", format=name, bits=bits, symmetric=True))
    held, again = ({c.name.split("_")[0]: ir.array(c) for c in model.constants()} for model in (once, twice))
    for weight in ("w", "v"):
        np.testing.assert_allclose(again[weight], held[weight], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("name", "bits"), [pair for pair in PAIRS if pair[1] >= 4])
def test_what_is_portable_computes_the_same(name: str, bits: int) -> None:
    found, feed = made(layers(4), format=name, bits=bits, portable=True), inputs(4)
    assert {node.domain for node in found.model.nodes} <= {"", None}
    onnx.checker.check_model(found.model.to_proto(), full_check=True)
    for got, wanted in zip(run(found.model, feed), run(valued(found), feed), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=1e-4 * np.abs(wanted).max())


@pytest.mark.parametrize(("name", "bits"), PAIRS)
def test_what_lies_on_a_shelf_comes_back(name: str, bits: int) -> None:
    found = made(layers(5), format=name, bits=bits)
    for site, decision in found.plan.quantized():
        plan, model = QuantPlan({site: decision}), found.planned.copy()
        Pipeline().graph(model, [Materialise(plan)])
        node = next(node for node in model.nodes if node.name == site.consumer)
        parts = [ir.lazy(part) for part in made_of(node.inputs[site.port])]
        wanted, again = decision.encoding, encoding_from(parts, "mse", site, plan)
        assert wanted is not None and wanted.codes is not None and again.codes is not None
        assert again.codes.dtype == wanted.codes.dtype
        np.testing.assert_array_equal(again.codes, wanted.codes)
        np.testing.assert_array_equal(again.zero_point, wanted.zero_point)
        np.testing.assert_array_equal(block_values(again), block_values(wanted))


@pytest.mark.parametrize("method", ["mse", "hqq"])
@pytest.mark.parametrize(("name", "bits"), PAIRS)
def test_fitted_grids_lose_less_than_those_that_cover(name: str, bits: int, method: str) -> None:
    model = layers(3, 256)
    exact = {c.name: ir.array(c) for c in model.constants()}
    lost = {}
    for rounding in ("rtn", method):
        held = {
            c.name.split("_")[0]: ir.array(c) for c in valued(made(model, rounding, format=name, bits=bits)).constants()
        }
        lost[rounding] = sum(float((np.abs(held[w] - exact[w]) ** (0.7 if method == "hqq" else 2)).sum()) for w in "wv")
    assert lost[method] <= lost["rtn"]


@pytest.mark.parametrize(
    "entries",
    [tuple(range(8)), tuple(range(4, 12)), (0, 3, 9, 200), tuple(range(0, 256, 17)), (1, 2, 4, 8, 16, 32, 64, 128)],
)
@given(seed=st.integers(0, 10**6), rows=st.integers(1, 5), blocks=st.integers(1, 3))
@settings(max_examples=10, deadline=None)
def test_codes_in_planes_come_back_as_entries(entries: tuple[int, ...], seed: int, rows: int, blocks: int) -> None:
    book = Book(np.array(entries, np.uint8), 4 if max(entries) < 16 else 8)
    codes = np.random.default_rng(seed).integers(0, len(entries), (rows, 16 * blocks)).astype(np.uint8)
    model = parse("g (uint8[a, b, c] x) => (uint8[a, b, c] y) { y = BitwiseXor(x, x) }")
    node, edit = model.nodes[0], ir.Editor(model, model.graph)
    planes = [together(codes >> low & (1 << width) - 1, width).reshape(rows, blocks, -1) for low, width in book.planes]
    wanted = together(book.entries[codes], book.bits).reshape(rows, blocks, -1)
    edit.set_input(node, 0, Unpacker(edit).unpacked(book, planes, wanted.shape, node))
    for optimize in (False, True):
        np.testing.assert_array_equal(run(model, {"x": np.zeros_like(wanted)}, optimize=optimize)[0], wanted)
    assert sum(plane.size for plane in planes) * 8 == codes.size * book.width


def test_nf4_is_that_of_the_kernel_for_it() -> None:
    """MatMulBnb4 holds the published values; ours are the nearest 127ths."""
    codes = np.arange(16, dtype=np.uint8)
    packed = (codes[0::2] << 4 | codes[1::2]).astype(np.uint8)
    model = parse(
        "g (float[16, 16] x) => (float[16, 1] y) {"
        " y = com.microsoft.MatMulBnb4 <K = 16, N = 1, block_size = 16, quant_type = 1> (x, b, s) }",
        {"b": packed, "s": np.ones(1, np.float32)},
    )
    levels = run(model, {"x": np.eye(16, dtype=np.float32)})[0].ravel()
    np.testing.assert_array_equal(np.rint(levels * 127), NF4_BOOK)


@pytest.mark.parametrize(("name", "bits"), PAIRS)
def test_a_whole_compile_on_the_command_line(name: str, bits: int, tmp_path: Path) -> None:
    model = layers(1, 128, 64)
    ir.save(model, tmp_path / "m.onnx")
    np.savez(tmp_path / "data.npz", x=np.random.default_rng(2).standard_normal((24, 128)).astype(np.float32))
    (tmp_path / "r.toml").write_text("sqnr_floor = -100\n")  # three levels lose more than a compile lets pass
    args = (
        tmp_path / "m.onnx", "--target", "onnxruntime", "--precision", "w4", "--format", name, "--bits", str(bits),
        "--recipe", tmp_path / "r.toml", "--data", tmp_path / "data.npz", "--bench-seconds", "0", "--max-drop", "none",
        "-q",
    )  # fmt: skip
    for folder in ("a", "b"):
        result = qcompile(*args, "-o", tmp_path / folder)
        assert result.exit_code == 0, result.stderr
    assert (tmp_path / "a/model.onnx").read_bytes() == (tmp_path / "b/model.onnx").read_bytes()
    report = json.loads((tmp_path / "a/report.json").read_text())
    assert not report["backend"]["fallback"]
    stored = sum(t.ByteSize() for t in onnx.load(tmp_path / "a/model.onnx").graph.initializer)
    spec = FORMATS[name].spec(bits, FORMATS[name].only or 32, symmetric=False)
    of_block = {"f32": 32, "e8m0": 8, "e4m3": 8}[spec.scale] + (0 if spec.symmetric else max(bits, 4))
    size = 64 * (128 + 24) * (bits + of_block / spec.granularity.size) / 8  # type: ignore[union-attr]
    assert size <= stored < size + 4000


HOLDS: dict[str, Callable[[QSpec], bool]] = {
    "8 bits": lambda spec: spec.qtype in (INT8, UINT8),
    "4 bits": lambda spec: spec.qtype in (INT4, UINT4),
    "3 bits": lambda spec: spec.qtype is UINT3,
    "2 bits": lambda spec: spec.qtype is UINT2,
    "`ternary`": lambda spec: spec.narrow and spec.qtype is INT2,
    "`nf4`": lambda spec: spec.qtype is NF4,
    "`fp4`": lambda spec: spec.qtype in (E2M1, FP4_E2M1) and spec.scale == "f32",
    "`mxfp4`": lambda spec: spec.qtype in (E2M1, FP4_E2M1) and spec.scale == "e8m0",
    "`nvfp4`": lambda spec: spec.qtype in (E2M1, FP4_E2M1) and spec.scale == "e4m3",
    "`fp8`": lambda spec: spec.qtype is FP8_E4M3,
    "`codebook`": lambda spec: spec.qtype in (BOOK2, BOOK3, BOOK4, PALETTE4, PALETTE6),
}  # fmt: skip


def stored_by(target: str) -> set[QSpec]:
    """Every kind of weight that some variant of a target stores, by its tables."""
    several: list[dict[str, object]] = [{}]
    if target == "onnxruntime":
        several += [{"format": name, "bits": bits} for name, bits in PAIRS]
    names = [f"{target}:{variant}" for variant in get(target).spec.variants]
    found = (configured(get(name), options).spec for name in names for options in several)
    rules = [rule for spec in found for scheme in spec.schemes.values() for rule in scheme]
    return {
        spec for rule in rules for value in rule.inputs.values() if isinstance(value, Weight) for spec in value.options
    }


def test_the_table_of_formats_and_targets_is_that_of_the_code() -> None:
    page = (Path(__file__).parents[2] / "docs/language-models.md").read_text(encoding="utf-8")
    _, head, rule, *lines = page[page.index("\n| weights | `onnxruntime`") :].split("\n")
    targets = [cell.strip(" `") for cell in head.split("|")[2:-1]]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[: lines.index("")]]
    assert rule.startswith("|---") and [row[0] for row in rows] == list(HOLDS)
    for column, target in enumerate(targets, 1):
        specs = stored_by(target)
        for row in rows:
            assert (row[column] != "no") == any(map(HOLDS[row[0]], specs)), (target, row[0])
