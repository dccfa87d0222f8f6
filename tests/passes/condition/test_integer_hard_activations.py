"""integer-hard-activations: HardSigmoid and HardSwish as Add, Clip and Mul, where their neighbours are integer."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler import ir
from qcompiler.backends.onnxruntime.spec import SPEC, U8
from qcompiler.errors import UsageError
from qcompiler.passes.condition.integer_hard_activations import IntegerHardActivations
from qcompiler.quant import Encoding, Site
from tests.graphs import assert_same_numbers, ops, refusals, transform
from tests.quantized import Quantized, quantize
from tests.small import FIRST, graph


def rewritten(model: ir.Model, keep_float: tuple[str, ...] = ()) -> tuple[ir.Model, list[str], dict[Site, Encoding]]:
    step = IntegerHardActivations(SPEC, U8, keep_float)
    after, records = transform(model, step)
    return after, refusals(records), step.given


def compiled(model: ir.Model) -> Quantized:
    after, _, given = rewritten(model)
    return quantize(after, given=given)


SWISH = f"{FIRST} s = HardSwish(a) y = Conv(s, v)"
GATE = "p = GlobalAveragePool(a) d = Conv(p, k) s = HardSigmoid{attributes}(d) t = Mul(a, s) y = Conv(t, v)"


def gate(attributes: str = "<alpha = 0.1666667, beta = 0.5>") -> ir.Model:
    return graph(f"{FIRST} {GATE.format(attributes=attributes)}")


def test_hard_swish() -> None:
    before = graph(SWISH)
    after, said, given = rewritten(before)
    assert ops(after) == ["Conv", "Add", "Clip", "Mul", "Mul", "Conv"]
    assert said == []
    assert_same_numbers(before, after, rtol=1e-4, atol=1e-5)
    assert [str(site) for site in given] == ["HardSwish_s_clip_out"]
    encoding = given[Site("HardSwish_s_clip_out")]
    assert (float(encoding.scale), int(encoding.zero_point)) == (np.float32(6 / 255), 0)
    assert after.find("Conv_y").inputs[0].name == "s"  # type: ignore[union-attr]


@pytest.mark.parametrize("attributes", ["", "<alpha = 0.1666667, beta = 0.5>", "<alpha = 1.0, beta = -0.25>"])
def test_hard_sigmoid(attributes: str) -> None:
    before = gate(attributes)
    after, said, _ = rewritten(before)
    assert ops(after) == ["Conv", "GlobalAveragePool", "Conv", "Add", "Clip", "Mul", "Mul", "Conv"]
    assert said == []
    assert_same_numbers(before, after, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make", [lambda: graph(SWISH), gate], ids=["swish", "gate"])
def test_the_result_runs_in_integers(make: object) -> None:
    model = make()  # type: ignore[operator]
    found = compiled(model)
    ops_run = found.optimised().ops
    assert found.optimised().fallback == ()
    assert ops_run["QLinearAdd"] == 1
    assert ops_run["QLinearMul"] == 1
    assert "Clip" not in ops_run
    assert "Mul" not in ops_run
    expected, got = model_output(model, found), np.asarray(found.outputs(optimize=True)[0])
    assert np.square(got - expected).mean() < 2e-3 * np.square(expected).mean()


def model_output(model: ir.Model, found: Quantized) -> np.ndarray:
    from tests.graphs import run

    return np.asarray(run(model, found.feeds[0])[0])


REFUSED = {
    "float input": ("s = HardSwish(x) y = Conv(s, w)", "'x' is not quantized, and quantizing it here would cost more"),
    "nobody reads it in integers": (f"{FIRST} s = HardSwish(a) y = Tanh(s)", "no quantized node reads its result"),
    "behind a matrix product": (
        "f = Flatten(x) g = Gemm(f, big) h = HardSwish(g) y = Gemm(h, m8)",
        "'g' is not quantized, and quantizing it here would cost more",
    ),
    "falling slope": (
        f"{FIRST} s = HardSigmoid<alpha = -0.2>(a) y = Conv(s, v)",
        "slope -0.2 of HardSigmoid 'HardSigmoid_s' is not positive, or extreme",
    ),
    "flat slope": (
        f"{FIRST} s = HardSigmoid<alpha = 0.0001>(a) y = Conv(s, v)",
        "slope 0.0001 of HardSigmoid 'HardSigmoid_s' is not positive, or extreme",
    ),
    "far offset": (
        f"{FIRST} s = HardSigmoid<beta = 100.0>(a) y = Conv(s, v)",
        "offset 100 of HardSigmoid 'HardSigmoid_s' is extreme",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(case: str) -> None:
    body, sentence = REFUSED[case]
    outputs = "float[N, M] y" if "Gemm" in body else "float[N, M, P, Q] y"
    before = graph(body, outputs=outputs, constants={"big": np.ones((1024, 8), np.float32)})
    after, said, given = rewritten(before)
    assert ops(after) == ops(before)
    assert said == [sentence]
    assert given == {}


def test_a_chain_of_them_is_one_region() -> None:
    after, said, given = rewritten(graph(f"{FIRST} s = HardSwish(a) t = HardSwish(s) y = Conv(t, v)"))
    assert said == []
    assert len(given) == 2
    assert "HardSwish" not in ops(after)


def test_keep_float() -> None:
    after, said, _ = rewritten(graph(SWISH), ("HardSwish_s",))
    assert ops(after) == ["Conv", "HardSwish", "Conv"]
    assert said == ["kept float by --keep-float 'HardSwish_s'"]
    found = quantize(after, keep_float=("HardSwish_s",))
    assert found.optimised().fallback == ()
    with pytest.raises(UsageError, match="matches no node and no tensor"):
        rewritten(graph(SWISH), ("nothing",))


def test_a_result_that_is_an_output_keeps_its_name() -> None:
    before = graph(SWISH, outputs="float[N, M, P, Q] y, float[N, R, S, T] s")
    after, _, _ = rewritten(before)
    assert [t.name for t in after.outputs] == ["y", "s"]
    assert_same_numbers(before, after)


def test_a_model_without_them_is_not_searched() -> None:
    before = graph(f"{FIRST} y = Conv(a, v)")
    after, said, _ = rewritten(before)
    assert ops(after) == ops(before)
    assert said == []
