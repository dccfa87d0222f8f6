"""fold-constants: what depends on constants only is computed, within limits and with reasons."""

from __future__ import annotations

import time

import numpy as np
import pytest
from onnx import TensorProto, helper

from qcompiler import ir
from qcompiler.passes.prepare import EliminateDead, FoldConstants, LiftConstants, NameEverything
from tests.graphs import assert_same_numbers, ops, parse, refusals, run, transform

RNG = np.random.default_rng(5)
W = RNG.normal(size=(3, 4)).astype(np.float32)


def test_folds_a_chain_and_keeps_names() -> None:
    before = parse(
        "g (float[4, 3] x) => (float[4, 3] y) { t = Transpose(w) u = Exp(t) v = Neg(u) y = Add(x, v) }",
        {"w": W},
    )
    after, records = transform(before, FoldConstants(), EliminateDead())
    assert ops(after) == ["Add"]
    assert [constant.name for constant in after.graph.declared] == ["v"]
    assert records[0].changes == 3
    assert_same_numbers(before, after)


def test_an_output_that_is_constant_keeps_its_name_and_folds_once() -> None:
    before = parse("g (float[3, 4] x) => (float[3, 4] y, float[3, 4] z) { y = Exp(w) z = Add(x, y) }", {"w": W})
    after, records = transform(before, FoldConstants())
    assert sorted(ops(after)) == ["Add", "Identity"]
    assert records[0].changes == 1
    assert_same_numbers(before, after)
    assert transform(after, FoldConstants())[1][0].changes == 0


def test_folds_in_branches_with_constants_from_outside() -> None:
    before = parse(
        """g (bool c, float[3, 4] x) => (float[3, 4] y) {
        y = If (c) <then_branch = t () => (float[3, 4] r) { e = Exp(w) r = Add(x, e) },
                    else_branch = e () => (float[3, 4] s) { s = Neg(x) }> }""",
        {"w": W},
    )
    after, records = transform(before, NameEverything(), FoldConstants(), EliminateDead())
    assert [node.op for node in after.all_nodes()] == ["If", "Add", "Neg"]
    assert records[1].changes == 1
    feeds = [{"c": np.array(flag), "x": W} for flag in (True, False)]
    assert_same_numbers(before, after, feeds)


def test_sizes_that_only_values_tell_take_another_round() -> None:
    before = parse(
        """g (float[N] x) => (float[M] y) {
        n = NonZero(w) f = Reshape(n, minus) k = Size(f) e = Cast <to = 1> (f) s = ReduceSum(e)
        c = Cast <to = 1> (k) d = Add(c, s) y = Add(x, d) }""",
        {"w": np.array([0, 1, 0, 2, 3], np.float32), "minus": np.array([-1])},
    )
    after, _ = transform(before, FoldConstants(), EliminateDead())
    assert ops(after) == ["Add"]
    assert run(after, {"x": np.zeros(1, np.float32)})[0].tolist() == [3 + 1 + 3 + 4]


@pytest.mark.parametrize(
    ("node", "reason"),
    [
        ("ConstantOfShape(shape)", "ConstantOfShape 'n0_ConstantOfShape' would take 4000000 bytes, more than 4096"),
        ("Expand(one, shape)", "Expand 'n0_Expand' would take 4000000 bytes, more than 4096"),
        ("Tile(one, shape)", "Tile 'n0_Tile' would take 4000000 bytes, more than 4096"),
        ("MatMul(tall, flat)", "MatMul 'n0_MatMul' would take 4000000 bytes, more than 8000"),
        ("Resize(one, , , shape)", "Resize 'n0_Resize' would take 4000000 bytes, more than 4096"),
    ],
)
def test_refuses_results_that_blow_up(node: str, reason: str) -> None:
    before = parse(
        f"g (float[1] x) => (float[1000, 1000] y) {{ c = {node} y = Add(x, c) }}",
        {
            "shape": np.array([1000, 1000]),
            "one": np.ones((1, 1), np.float32),
            "tall": np.ones((1000, 1), np.float32),
            "flat": np.ones((1, 1000), np.float32),
        },
    )
    after, records = transform(before, FoldConstants(limit=4096))
    assert len(ops(after)) == 2
    assert refusals(records) == [f"result 'c' of {reason}"]
    assert ops(transform(before, FoldConstants(limit=4_000_000))[0]) == ["Add"]


def test_what_is_large_already_may_change_its_form() -> None:
    constants = {"w": np.ones((100, 100), np.float16)}
    before = parse(
        "g (float[1, 100] x) => (float[1, 100] y) { c = Cast <to = 1> (w) t = Transpose(c) y = MatMul(x, t) }",
        constants,
    )
    after, _ = transform(before, FoldConstants(limit=64))
    assert ops(after) == ["MatMul"]
    assert_same_numbers(before, after)


def test_growth_by_repeated_doubling_ends_at_the_limit() -> None:
    lines = " ".join(f"t{i + 1} = Concat <axis = 0> (t{i}, t{i})" for i in range(24))
    before = parse(f"g (float[1] x) => (float[M] y) {{ {lines} y = Add(x, t24) }}", {"t0": np.ones(4, np.float32)})
    after, records = transform(before, FoldConstants(limit=1 << 12))
    assert "would take 8192 bytes, more than 4096" in refusals(records)[0]
    assert ops(after) == ["Concat"] * 16 + ["Add"]
    assert max(ir.nbytes(constant) for constant in after.graph.declared) <= 1 << 12


def test_quantized_weights_stay_quantized() -> None:
    before = parse(
        """g (float[2, 3] x) => (float[2, 4] y, float[2, 4] z) {
        a = DequantizeLinear(codes, scale) y = MatMul(x, a)
        q = QuantizeLinear(w, scale) b = DequantizeLinear(q, scale) z = MatMul(x, b) }""",
        {"codes": np.ones((3, 4), np.int8), "w": W, "scale": np.float32(0.1)},
    )
    after, records = transform(before, FoldConstants())
    assert ops(after) == ops(before)
    assert (records[0].changes, refusals(records)) == (0, [])


@pytest.mark.parametrize(
    "node",
    [
        "RandomNormalLike <seed = 1.0> (w)",
        "Bernoulli(w)",
        "com.microsoft.Gelu(w)",
        "Dropout(w, , yes)",
        "If (yes) <then_branch = t () => (float r) { r = Exp(h) }, else_branch = t () => (float s) { s = Neg(h) }>",
    ],
)
def test_never_computes_what_is_random_foreign_or_holds_a_graph(node: str) -> None:
    model = parse(
        f"g (float[3, 4] x) => (float[3, 4] y) {{ c = {node} y = Add(x, c) }}",
        {"w": W, "yes": np.array(True), "h": np.float32(1)},
    )
    after, _ = transform(model, NameEverything(), FoldConstants())
    assert ops(after) == ops(model)


@pytest.mark.parametrize(
    ("node", "constants", "reason"),
    [
        (
            "Div(a, b)",
            {"a": np.array([7, 5]), "b": np.array([2, -1])},
            "Div 'n0_Div' divides by -1, which may overflow",
        ),
        ("Mod(a, b)", {"a": np.array([7, 5]), "b": np.array([2, 0])}, "Mod 'n0_Mod' cannot be computed: "),
        ("Gather(a, b)", {"a": np.array([7, 5]), "b": np.array([2, 0])}, "Gather 'n0_Gather' cannot be computed: "),
    ],
)
def test_what_the_runtime_cannot_compute_stays(node: str, constants: dict[str, np.ndarray], reason: str) -> None:
    before = parse(
        f"g (int64[2] x) => (int64[2] y) {{ c = {node} d = Add(a, a) y = Sum(x, c, d) }}".replace("Sum", "Max"),
        constants,
    )
    after, records = transform(before, FoldConstants())
    assert ops(after) == [node.partition("(")[0], "Max"]
    (found,) = refusals(records)
    assert found.startswith(reason)


def test_integer_division_by_computed_constants_waits_for_them() -> None:
    before = parse(
        """g (int64[2] x) => (int64[2] y) {
        b = Neg(a) c = Div(a, b) d = Abs(b) e = Div(a, d) f = Add(c, e) y = Add(x, f) }""",
        {"a": np.array([np.iinfo(np.int64).min, 1])},
    )
    after, records = transform(before, FoldConstants())
    assert refusals(records) == ["Div 'n1_Div' divides by -1, which may overflow"]
    assert ops(after) == ["Div", "Add", "Add"]


def test_results_of_other_kinds_stay() -> None:
    before = parse(
        "g (float[3, 4] x) => (float[3, 4] y) { s = SequenceConstruct(w, w) c = SequenceAt(s, i) y = Add(x, c) }",
        {"w": W, "i": np.array(0)},
    )
    after, records = transform(before, FoldConstants())
    assert ops(after) == ops(before)
    assert refusals(records) == ["result 's' of SequenceConstruct 'n0_SequenceConstruct' is not a dense tensor"]


def test_reads_types_that_numpy_lacks_and_does_not_write_them() -> None:
    text = """g (float[4] x) => (float[4] y) {
        c = Cast <to = 1> (b) d = Cast <to = 16> (c) e = Cast <to = 1> (d) f = Add(c, e) y = Add(x, f) }"""
    proto = parse(text, {"b": np.ones(4, np.float32)}).to_proto()
    proto.graph.initializer[0].CopyFrom(helper.make_tensor("b", TensorProto.BFLOAT16, [4], [1.0, 2.0, 3.0, 4.0]))
    after, records = transform(ir.Model.from_proto(proto), FoldConstants())
    assert ops(after) == ["Cast", "Cast", "Add", "Add"]
    assert refusals(records) == ["result 'd' of Cast 'n1_Cast' is bfloat16, which NumPy lacks"]
    assert run(after, {"x": np.zeros(4, np.float32)})[0].tolist() == [2, 4, 6, 8]


def test_folds_strings() -> None:
    before = parse(
        """g (int64[2] x) => (int64[2] y) {
        c = StringConcat(a, a) e = Equal(c, b) f = Cast <to = 7> (e) y = Add(x, f) }""",
        {"a": np.array(["ab", "c"], object), "b": np.array(["abab", "d"], object)},
    )
    after, _ = transform(before, FoldConstants(), EliminateDead())
    assert ops(after) == ["Add"]
    assert run(after, {"x": np.zeros(2, np.int64)})[0].tolist() == [1, 0]


def test_a_thousand_nodes_take_no_time() -> None:
    lines = " ".join(f"c{i} = Mul(w, k{i % 50}) d{i} = Transpose(c{i}) x{i + 1} = Add(x{i}, d{i})" for i in range(300))
    text = f"g (float[4, 3] x0) => (float[4, 3] y) {{ {lines} y = Relu(x300) }}"
    before = parse(text, {"w": W, **{f"k{i}": np.float32(i) for i in range(50)}})
    start = time.perf_counter()
    after, _ = transform(before, LiftConstants(), FoldConstants())
    assert time.perf_counter() - start < 4
    assert ops(after) == ["Add"] * 300 + ["Relu"]
    assert_same_numbers(before, after, rtol=1e-3)


def test_packed_weights_that_two_nodes_share_stay_one() -> None:
    """The builder of onnxruntime-genai writes tied embeddings so."""
    text = """g (int64[n] ids, float[n, 32] x) => (float[n, 32] e, float[n, 8] y) <int64[2] flat = {8, 16}> {
        table = Reshape(packed, flat)
        e = com.microsoft.GatherBlockQuantized <bits = 4, block_size = 32, gather_axis = 0, quantize_axis = 1>
            (table, ids, scales)
        y = com.microsoft.MatMulNBits <bits = 4, block_size = 32, K = 32, N = 8> (x, packed, scales) }"""
    packed = np.arange(128, dtype=np.uint8).reshape(8, 1, 16)
    before = parse(text, {"packed": packed, "scales": np.ones((8, 1), np.float32)})
    after, records = transform(before, FoldConstants())
    assert ops(after) == ["Reshape", "GatherBlockQuantized", "MatMulNBits"] and not refusals(records)
    ids = {"ids": np.array([1, 7]), "x": np.ones((2, 32), np.float32)}
    assert_same_numbers(before, after, [ids], rtol=0, atol=0)
