"""Operators that a target lacks, written out."""

import numpy as np
import pytest

from qcompiler import ir
from qcompiler.backends.qnn.spec import LACKS
from qcompiler.passes.fusion.expand_operators import FORMS, ExpandOperators
from qcompiler.passes.fusion.written_out import WRITTEN_OUT
from tests.graphs import parse, refusals, run, transform

CALLS = {
    "Celu": "Celu<alpha=1.5>(x)", "Trilu": "Trilu<upper=0>(x, k)", "ReduceL1": "ReduceL1<keepdims=1>(x, axes)",
    "ReduceSumSquare": "ReduceSumSquare<keepdims=0>(x, axes)", "ReduceLogSum": "ReduceLogSum<keepdims=1>(x, axes)",
}  # fmt: skip
DOMAINS = {
    "Reciprocal": (0.05, 0.5),
    "Acosh": (1.1, 4),
    "Atanh": (-0.95, 0.95),
    "Asin": (-0.99, 0.99),
    "Acos": (-0.99, 0.99),
    "ReduceLogSum": (0.1, 3),
}


def single(op: str) -> ir.Model:
    constants = {"k": np.asarray(-1, np.int64), "axes": np.asarray([1], np.int64)}
    call = CALLS.get(op, f"{op}(x)")
    used = {name: value for name, value in constants.items() if name in call}
    rank = 1 if "keepdims=0" in call else 2
    return parse(f"g (float[5,5] x) => (float{'[N,M]' if rank == 2 else '[N]'} y) {{ y = {call} }}", used)


@pytest.mark.parametrize("op", sorted(FORMS.keys() - WRITTEN_OUT.keys()))
def test_the_same_numbers_without_the_operator(op: str) -> None:
    before = single(op)
    after, records = transform(before, ExpandOperators(LACKS))
    assert records[0].changes == 1 and op not in [node.op for node in after.nodes]
    low, high = DOMAINS.get(op, (-3, 3))
    for seed in range(3):
        x = np.random.default_rng(seed).uniform(low, high, (5, 5)).astype(np.float32)
        x[0, 0] = 0.0 if low < 0 < high else x[0, 0]
        np.testing.assert_allclose(run(after, {"x": x})[0], run(before, {"x": x})[0], rtol=1e-4, atol=5e-5)


def test_no_form_leaves_what_the_target_lacks() -> None:
    made = {
        node.op
        for op in FORMS.keys() - WRITTEN_OUT.keys()
        for node in transform(single(op), ExpandOperators(LACKS))[0].nodes
    }
    assert not made & LACKS


def test_what_has_no_form_is_refused_with_the_reason() -> None:
    model = parse("g (float[5,5] x) => (float[5,5] y) { y = Hardmax(x) }")
    after, records = transform(model, ExpandOperators(LACKS))
    assert [node.op for node in after.nodes] == ["Hardmax"]
    assert refusals(records) == ["Hardmax 'n0_Hardmax' is not written out: no form is known"]


def test_a_triangle_of_unknown_size_is_refused() -> None:
    model = parse("g (float[N,5] x) => (float[N,5] y) { y = Trilu(x) }")
    _, records = transform(model, ExpandOperators(LACKS))
    assert "depends on a size or offset that is not fixed" in refusals(records)[0]


def test_nothing_is_touched_that_the_target_has() -> None:
    model = parse("g (float[5] x) => (float[5] y) { y = Softsign(x) }")
    _, records = transform(model, ExpandOperators(frozenset({"Erf"})))
    assert records[0].changes == 0 and not refusals(records)


def test_only_the_nodes_that_are_named() -> None:
    model = parse("g (float[5] x) => (float[5] y) { a = Softsign(x) y = Softsign(a) }")
    last = model.nodes[1].name
    after, records = transform(model, ExpandOperators(LACKS, frozenset({last})))
    assert records[0].changes == 1 and [node.op for node in after.nodes] == ["Softsign", "Abs", "Add", "Div"]
