"""promised-means: what BatchNormalization said survives folding, and nothing is believed of another layer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from qcompiler import ir
from qcompiler.frontend import Frontend, front
from qcompiler.numerics.normal_moments import Moments
from qcompiler.passes.plan.promised_means import folded_norms, promised
from tests.graphs import ops
from tests.small import graph, normal

NORM = {"g": normal(8), "e": normal(8), "u": normal(8), "s": np.abs(normal(8)) + 0.5}
CONV = "a = Conv <pads = [1, 1, 1, 1]> (x, w, b) n = BatchNormalization (a, g, e, u, s)"


def prepared(folder: Path, body: str, **constants: np.ndarray) -> Frontend:
    path = folder / "model.onnx"
    onnx.save(graph(body, constants={**NORM, **constants}).to_proto(), path)
    return front(path)


def behind(folder: Path, body: str, name: str, **constants: np.ndarray) -> Moments | None:
    ready = prepared(folder, body, **constants)
    return promised(ready.prepared, ready.promised).get(name)


def test_a_folded_norm_is_found_under_the_name_that_is_left(tmp_path: Path) -> None:
    ready = prepared(tmp_path, f"{CONV} y = Relu (n)")
    assert ops(ready.prepared) == ["Conv", "Relu"]
    (moments,) = ready.promised.values()
    assert np.array_equal(moments.mean, NORM["e"]) and np.array_equal(moments.deviation, np.abs(NORM["g"]))
    assert list(ready.promised) == [ready.prepared.nodes[0].outputs[0].name]


def test_constants_may_be_nodes(tmp_path: Path) -> None:
    model = graph(f"{CONV} y = Relu (n)", constants=NORM).to_proto()
    for tensor in list(model.graph.initializer):
        model.graph.node.insert(0, onnx.helper.make_node("Constant", [], [tensor.name], value=tensor))
    del model.graph.initializer[:]
    onnx.save(model, tmp_path / "model.onnx")
    assert len(front(tmp_path / "model.onnx").promised) == 1


def test_a_layer_that_took_in_more_promises_nothing(tmp_path: Path) -> None:
    ready = prepared(tmp_path, f"{CONV} t = Mul (n, channel) y = Relu (t)")
    assert ops(ready.prepared) == ["Conv", "Relu"] and not ready.promised


def test_a_norm_that_was_not_folded_promises_nothing_of_its_input(tmp_path: Path) -> None:
    ready = prepared(tmp_path, f"{CONV} r = Relu (a) y = Add (n, r)")
    assert "Conv" in ops(ready.prepared)
    assert not any(name == "a" for name in ready.promised)


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        ("r = Relu (n) y = Neg (r)", lambda m: m.clipped(0, np.inf)),
        ("r = Clip (n, zero, six) y = Neg (r)", lambda m: m.clipped(0, 6)),
        ("r = Identity (n) y = Add (r, r)", lambda m: m.plus(m)),
        ("r = Concat <axis = 1> (n, n) y = Neg (r)", lambda m: Moments(np.tile(m.mean, 2), np.tile(m.deviation, 2))),
        (
            "p = Relu (n) r = GlobalAveragePool (p) y = Neg (r)",
            lambda m: Moments(m.clipped(0, np.inf).mean, 0 * m.mean),
        ),
    ],
)
def test_what_stands_behind(tmp_path: Path, body: str, wanted) -> None:  # type: ignore[no-untyped-def]
    name = "y" if "Add" in body else "r"
    found = behind(tmp_path, f"{CONV} {body}", name)
    exact = wanted(Moments(NORM["e"].astype(np.float64), np.abs(NORM["g"]).astype(np.float64)))
    assert found is not None
    np.testing.assert_allclose(found.mean, exact.mean)
    np.testing.assert_allclose(found.deviation, exact.deviation)


@pytest.mark.parametrize("body", ["r = MaxPool <kernel_shape = [2, 2]> (n) y = Neg (r)", "r = Mul (n, x8) y = Neg (r)"])
def test_where_it_ends(tmp_path: Path, body: str) -> None:
    assert behind(tmp_path, f"{CONV} x8 = Concat <axis = 1> (x, x) {body}", "r") is None


def test_instance_norms_speak_for_themselves() -> None:
    model = graph("a = Conv <pads = [1, 1, 1, 1]> (x, w, b) y = InstanceNormalization (a, g, e)", constants=NORM)
    assert np.array_equal(promised(model, {})["y"].mean, NORM["e"])
    assert not folded_norms(model, ir.Model.from_proto(model.to_proto()))
