"""Mixtures of experts as PyTorch exports them: weights that are looked up for each token are stored in blocks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from qcompiler import Recipe, compile, ir
from qcompiler.backends.onnxruntime.expert_tables import ExpertTables
from tests.graphs import assert_same_numbers, ops, parse, run, transform

RNG = np.random.default_rng(0)
MIXTURE = """g (float[T, 64] x) => (float[T, 64] y)
        <int64[1] one = {1}, int64[1] two = {2}, int64[1] all = {-1}, int64[3] wide = {1, 2, 1},
         int64[2] flat = {-1, 64}> {
    scores = MatMul(x, router) shares = Softmax(scores) weight, chosen = TopK(shares, two)
    u = Unsqueeze(x, one) e = Tile(u, wide) rows = Reshape(e, flat)
    each = Reshape(chosen, all) nth = Unsqueeze(each, all)
    up = GatherND(W1, nth) column = Unsqueeze(rows, two) product = MatMul(up, column)
    h = Squeeze(product, two) s = Sigmoid(h) a = Mul(h, s)
    down = GatherND(W2, nth) hidden = Unsqueeze(a, two) result = MatMul(down, hidden) z = Squeeze(result, two)
    w = Reshape(weight, all) v = Unsqueeze(w, one) scaled = Mul(z, v)
    pairs = Reshape(scaled, shape) y = ReduceSum <keepdims = 0> (pairs, one) }"""


def mixture(k: int = 64) -> ir.Model:
    weights = {
        "router": RNG.standard_normal((k, 4)), "W1": RNG.standard_normal((4, 96, k)) / 8,
        "W2": RNG.standard_normal((4, k, 96)) / 10,
    }  # fmt: skip
    constants = {name: values.astype(np.float32) for name, values in weights.items()}
    return parse(MIXTURE.replace("64", str(k)), {**constants, "shape": np.array([-1, 2, k])})


@pytest.mark.parametrize(("bits", "stored", "least"), [(3, 4, 0.97), (4, 4, 0.97), (8, 8, 0.9995)])
def test_experts_are_stored_in_blocks(bits: int, stored: int, least: float, tmp_path: Path) -> None:
    model = mixture()
    ir.save(model, tmp_path / "m.onnx")
    recipe = Recipe(precision="w4", bench_seconds=0, options={"bits": bits, "table_bits": 0, "accuracy_level": 0})
    compile(tmp_path / "m.onnx", "onnxruntime", output=tmp_path / "o", recipe=recipe)
    shipped = onnx.load(tmp_path / "o" / "model.onnx")
    found = [node for node in shipped.graph.node if node.op_type == "GatherBlockQuantized"]
    assert [onnx.helper.get_node_attr_value(node, "bits") for node in found] == [stored] * 2
    assert all(
        t.data_type != onnx.TensorProto.FLOAT or np.prod(t.dims) < 4 * 96 * 64 for t in shipped.graph.initializer
    )
    feed = {"x": RNG.standard_normal((9, 64)).astype(np.float32)}
    want, got = run(model, feed)[0], run(ir.load(tmp_path / "o" / "model.onnx"), feed)[0]
    assert np.corrcoef(want.ravel(), got.ravel())[0, 1] > least


def test_a_table_of_matrices_becomes_one_of_rows() -> None:
    text = "g (int64[A, B] i) => (float[A, B, 3, 32] y, float[A, B, 3, 32] z) { y = Gather(w, i) z = Gather(w, i) }"
    before = parse(text, {"w": RNG.standard_normal((4, 3, 32)).astype(np.float32)})
    after, (record,) = transform(before, ExpertTables(32))
    assert sorted(ops(after)) == ["Gather", "Gather", "Reshape", "Reshape"] and record.changes == 2
    assert len({node.inputs[0].name for node in after.nodes if node.op == "Gather"}) == 1
    assert_same_numbers(before, after, [{"i": np.array([[0, 3], [1, -1]])}], rtol=0, atol=0)


@pytest.mark.parametrize("table", [(4, 3, 24), (4, 32), (4, 2, 3, 32)])
def test_others_stay(table: tuple[int, ...]) -> None:
    rest = ", ".join(map(str, table[1:]))
    before = parse(f"g (int64[A] i) => (float[A, {rest}] y) {{ y = Gather(w, i) }}", {"w": np.ones(table, np.float32)})
    _, (record,) = transform(before, ExpertTables(32))
    assert record.changes == 0 and len(record.refusals) == (table == (4, 3, 24))
