"""Weights in blocks for ONNX Runtime: the packed operators against the plain ones, and through a whole compile."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from qcompiler import compiler, ir
from qcompiler.backends import get
from qcompiler.backends.base import configured
from qcompiler.backends.onnxruntime.nbits import UseNBits
from qcompiler.backends.onnxruntime.unpack import together
from qcompiler.errors import UsageError
from qcompiler.frontend import front
from qcompiler.passes.prepare.infer_shapes import InferShapes
from qcompiler.passes.prepare.name_everything import NameEverything
from qcompiler.pipeline import Pipeline
from qcompiler.recipe import Recipe
from qcompiler.search.candidates import Candidate, Drafter
from qcompiler.search.weights_in_blocks import with_codes
from tests.graphs import run

RNG = np.random.default_rng(0)
TEXT = """<ir_version: 10, opset_import: ["" : 21]>
g (int64[n] ids, float[n, K] x) => (float[n, N] y, float[n, 24] z) {
  e = Gather(t, ids)
  a = Add(e, x)
  m = Mul(a, gamma)
  y = MatMul(m, w)
  z = Gemm <transB = 1> (y, v, b)
}"""


def language(k: int = 80, n: int = 48, *, tied: bool = False) -> ir.Model:
    """A table, a layer and a layer with bias; `k` is no multiple of the block."""
    proto = onnx.parser.parse_model(TEXT.replace("K", str(k)).replace("N", str(n)))
    table = RNG.standard_normal((n if tied else 96, k)).astype(np.float32)
    values = {
        "t": table, "gamma": (1 + RNG.random(k)).astype(np.float32),
        "w": np.ascontiguousarray(table[:n].T) if tied else RNG.standard_normal((k, n)).astype(np.float32),
        "v": RNG.standard_normal((24, n)).astype(np.float32), "b": RNG.standard_normal(24).astype(np.float32),
    }  # fmt: skip
    proto.graph.initializer.extend(numpy_helper.from_array(v, k) for k, v in values.items())
    model = ir.Model.from_proto(proto)
    Pipeline().graph(model, [NameEverything(), InferShapes()])
    return model


def feed(rows: int = 7, k: int = 80) -> dict[str, np.ndarray]:
    return {"ids": RNG.integers(0, 48, rows), "x": RNG.standard_normal((rows, k)).astype(np.float32)}


def made(model: ir.Model, method: str = "mse", **options: object) -> Candidate:
    """The w4 candidate without data."""
    backend = configured(get("onnxruntime"), options)
    drafter = Drafter(model, backend, only_given=True)
    draft = with_codes(drafter.draft("w4"), None, method, 1 << 28, lambda *_: None)
    return drafter.candidate(draft, None, "auto", {})


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("block", [16, 32, 128])
@pytest.mark.parametrize("symmetric", [False, True])
def test_packed_operators_compute_what_the_plain_ones_do(bits: int, block: int, symmetric: bool) -> None:
    options = {"bits": bits, "table_bits": bits, "block": block, "symmetric": symmetric, "accuracy_level": 0}
    found = made(language(), **options)
    ops = [node.op for node in found.model.nodes]
    assert ops.count("MatMulNBits") == 2 and ops.count("GatherBlockQuantized") == 1
    samples = feed()
    weights = {site.tensor: decision.encoding for site, decision in found.plan.quantized()}
    plain = language_with(found, weights)
    for got, wanted in zip(run(found.model, samples), run(plain, samples), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)
    if symmetric:
        assert not any("zero_points" in tensor.name for node in found.model.nodes for tensor in node.inputs)


def language_with(found: Candidate, weights: dict[str, object]) -> ir.Model:
    """The planned graph with each weight replaced by what its codes stand for, computed here."""
    model = found.planned.copy()
    edit = ir.Editor(model, model.graph)
    for node in model.nodes:
        for port, tensor in enumerate(node.inputs):
            encoding = weights.get(tensor.name)
            if encoding is not None:
                axis, size = encoding.spec.granularity.axis, encoding.spec.granularity.size  # type: ignore[attr-defined]
                index = np.arange(tensor.shape[axis]) // size
                scale, zero = (a.take(index, axis) for a in (encoding.scale, encoding.zero_point))  # type: ignore[attr-defined]
                values = ((encoding.codes.astype(np.int32) - zero) * scale).astype(np.float32)  # type: ignore[attr-defined]
                edit.set_input(node, port, edit.constant(f"{tensor.name}_plain", values))
    return model


def test_a_row_that_is_less_than_a_block_is_not_filled_up_to_it() -> None:
    """One block of 64 holds the 48 inputs of a layer, with the codes and the scale of one of 256."""
    found = made(language(), block=256, accuracy_level=0)
    layers = {node.attrs["K"]: node for node in found.model.nodes if node.op == "MatMulNBits"}
    assert {k: node.attrs["block_size"] for k, node in layers.items()} == {80: 128, 48: 64}
    assert layers[48].inputs[1].shape == (24, 1, 32)
    (table,) = (node for node in found.model.nodes if node.op == "GatherBlockQuantized")
    assert table.attrs["block_size"] == 128
    samples = feed()
    plain = language_with(found, {site.tensor: decision.encoding for site, decision in found.plan.quantized()})
    for got, wanted in zip(run(found.model, samples), run(plain, samples), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("method", ["rtn", "mse", "hqq"])
def test_eight_bits_are_close_to_float(method: str) -> None:
    model, samples = language(), feed()
    found = made(model, method, bits=8)
    for got, wanted in zip(run(found.model, samples), run(model, samples), strict=True):
        assert np.abs(got - wanted).max() < 0.03 * np.abs(wanted).max()


def test_portable_is_standard_onnx_and_computes_the_same() -> None:
    model, samples = language(), feed()
    plain, packed = made(model, portable=True), made(model, accuracy_level=0)
    assert {node.domain for node in plain.model.nodes} <= {"", None}
    onnx.checker.check_model(plain.model.to_proto(), full_check=True)
    kinds = {t.data_type for t in plain.model.to_proto().graph.initializer}
    assert TensorProto.UINT4 in kinds
    for got, wanted in zip(run(plain.model, samples), run(packed.model, samples), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "bits"),
    [({}, 8), ({"format": "nf4"}, 8), ({"bits": 8}, 8), ({"bits": 2, "table_bits": 2}, 2), ({"mixed_bits": True}, 8)],
)
def test_a_layer_that_is_a_table_has_its_bits(options: dict[str, object], bits: int) -> None:
    """One copy of 8 bits is smaller than two of 8 and 4."""
    samples, model = feed(k=96), language(96, 64, tied=True)
    one = made(model, accuracy_level=0, **options)
    sites = {site.consumer: decision.choice for site, decision in one.plan.quantized() if site.tensor in "tw"}
    assert len(sites) == 2 and {spec.qtype.bits for spec in sites.values() if spec} == {bits}
    large = [tensor for tensor in one.model.constants() if ir.nbytes(tensor) >= 64 * 96 * bits // 8]
    assert len(large) == 1
    if options == {}:
        exact, got = run(model, samples)[0], run(one.model, samples)[0]
        assert np.abs(got - exact).max() < 0.03 * np.abs(exact).max()


@pytest.mark.parametrize(
    ("k", "options", "bits"),
    [
        (80, {}, {8, 4}),  # no whole blocks
        (128, {"block": 256}, {8}),  # it does: a block takes the whole row
        (96, {"bits": 8, "table_bits": 4}, {8, 4}),  # layers have more
        (96, {"portable": True}, {8, 4}),  # DequantizeLinear reads them in different layouts
        (96, {"table_bits": 0}, {4}),
    ],
)
def test_where_a_layer_gains_nothing_from_its_table_it_has_its_own_bits(
    k: int, options: dict[str, object], bits: set[int]
) -> None:
    one = made(language(k, 64, tied=True), **options)
    found = {d.choice.qtype.bits for site, d in one.plan.quantized() if site.tensor in "tw" and d.choice}
    assert found == bits


@pytest.mark.parametrize("k", [80, 96])
def test_a_table_that_is_a_layer_too_stays_one(k: int) -> None:
    """Where its rows are whole blocks; else the two are stored differently, and only their codes are the same."""
    samples, model = feed(k=k), language(k, 64, tied=True)
    one = made(model, table_bits=4, accuracy_level=0)
    assert any(node.op == "Reshape" for node in one.model.nodes) == (k == 96)
    large = [tensor for tensor in one.model.constants() if ir.nbytes(tensor) >= 64 * k // 2]
    assert len(large) == (1 if k == 96 else 2)
    plain = language_with(one, {site.tensor: decision.encoding for site, decision in one.plan.quantized()})
    for got, wanted in zip(run(one.model, samples), run(plain, samples), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_codes_lie_in_bytes_lowest_bits_first(bits: int) -> None:
    codes = RNG.integers(0, 2**bits, (3, 10)).astype(np.uint8)
    packed, per = together(codes, bits), 8 // bits
    back = np.stack([packed >> (bits * place) & (2**bits - 1) for place in range(per)], -1).reshape(3, -1)
    np.testing.assert_array_equal(back[:, :10], codes)
    assert not back[:, 10:].any()


def test_what_has_no_kernel_stays_as_it_is() -> None:
    proto = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 21]> g (float[2, 32] x) => (float[2, 4] y) {'
        " w = DequantizeLinear <axis = 0, block_size = 8> (q, s) y = MatMul(x, w) }"
    )
    proto.graph.initializer.extend(
        [
            numpy_helper.from_array(np.ones((32, 4), np.int8), "q"),
            numpy_helper.from_array(np.ones((4, 4), np.float32), "s"),
        ]
    )
    model = ir.Model.from_proto(proto)
    pipeline = Pipeline()
    assert pipeline.graph(model, [UseNBits()]) == 0
    assert "blocks of 8" in pipeline.trace.records[-1].refusals[0].reason


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({"bits": 5}, "--bits"), ({"format": "nf5"}, "--format"), ({"format": "nf4", "bits": 2}, "--bits"),
        ({"format": "mxfp4", "block": 64}, "--block"),
        ({"bits": 3, "portable": True}, "--portable"), ({"block": 24}, "--block"), ({"table_bits": 5}, "--table-bits"),
        ({"accuracy_level": 7}, "--accuracy-level"), ({"bits": 2, "portable": True}, "--portable"),
    ],
)  # fmt: skip
def test_options_that_no_kernel_takes_are_refused(options: dict[str, object], where: str) -> None:
    with pytest.raises(UsageError) as error:
        configured(get("onnxruntime"), options)
    assert error.value.where == where


def test_a_whole_compile_with_data(tmp_path: Path) -> None:
    model = language()
    ir.save(model, tmp_path / "m.onnx")
    samples = feed(40)
    np.savez(tmp_path / "data.npz", ids=samples["ids"], x=samples["x"])
    recipe = Recipe(precision="w4", bench_seconds=0)
    results = {}
    for method in ("rtn", "auto"):
        results[method] = compiler.compile(
            tmp_path / "m.onnx", "onnxruntime", str(tmp_path / "data.npz"), output=tmp_path / method,
            recipe=recipe.updated({"weight_method": method}),
        )  # fmt: skip
        assert results[method].exit_status == 0
        nodes = {node.op for node in results[method].model.nodes}
        assert {"MatMulNBits", "GatherBlockQuantized"} <= nodes
        assert not results[method].report.backend["fallback"]
    again = compiler.compile(
        tmp_path / "m.onnx", "onnxruntime", str(tmp_path / "data.npz"), output=tmp_path / "again", recipe=recipe
    )
    assert again.exit_status == 0
    assert (tmp_path / "again/model.onnx").read_bytes() == (tmp_path / "auto/model.onnx").read_bytes()
    wanted = run(model, samples)[0]
    lost = {m: np.square(run(r.model, samples)[0] - wanted).sum() for m, r in results.items()}
    assert lost["auto"] < lost["rtn"]


def test_layers_get_more_bits_by_their_role() -> None:
    folder = Path(__file__).parents[2] / "models/docs_llama"
    backend = configured(get("onnxruntime"), {"mixed_bits": True})
    plan = Drafter(front(folder / "model.onnx").prepared, backend, only_given=True).draft("w4").plan
    wide = {name for name, node in plan.nodes.items() if node.rule == "needy-matrix"}
    assert wide == {f"/blocks.{i}/{part}/MatMul" for i in range(6) for part in ("attention/o", "down")}
    assert {plan.nodes[name].precision for name in wide} == {"w8"}
    assert sum(node.rule == "block-matrix" for node in plan.nodes.values()) == 43 - 12 - 1
    assert (plan.nodes["/MatMul"].rule, plan.nodes["/MatMul"].precision) == ("tied-matrix", "w8")


def test_our_language_model_keeps_its_words_in_4_bits(tmp_path: Path) -> None:
    """The whole way, with a cache of keys and values and one copy of the embedding; one pass over a few samples."""
    folder = Path(__file__).parents[2] / "models/docs_llama"
    for part, rows in (("calibration", 8), ("evaluation", 6)):
        with np.load(folder / f"{part}.npz") as archive:
            np.savez(tmp_path / f"{part}.npz", **{name: values[:rows] for name, values in archive.items()})
    result = compiler.compile(
        folder / "model.onnx", "onnxruntime", str(tmp_path / "calibration.npz"),
        evaluation=str(tmp_path / "evaluation.npz"),
        recipe=Recipe("w4", weight_method="awq", bench_seconds=0, metric="perplexity", options={"block": 128}),
    )  # fmt: skip
    accuracy, size = result.report.accuracy, result.report.size
    assert result.exit_status in (0, 4)
    assert 15 < accuracy.float < 22 and accuracy.quantized < 1.1 * accuracy.float
    assert size["quantized_bytes"] < size["float_bytes"] / 5
    assert sum(node.op == "MatMulNBits" for node in result.model.nodes) == 43
