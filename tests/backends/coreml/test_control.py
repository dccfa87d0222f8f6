"""If whose condition is computed, Loop by its turns, and what MIL cannot say refused by node and rule."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from qcompiler import ir
from qcompiler.analysis import SessionConfig
from qcompiler.analysis.run import Runner
from qcompiler.backends.coreml.convert import Settings, convert
from qcompiler.backends.coreml.evaluate import Package
from qcompiler.backends.coreml.interface import interface
from qcompiler.backends.coreml.package import save
from qcompiler.errors import ModelError

pytest.importorskip("coremltools", reason="the extra coreml is not installed")

TEXT = """<ir_version: 10, opset_import: ["" : 21]>
g (float[2, 4] x) => (float[2, 4] y, float[2, 4] z) <float[4] k, float zero> {
    m = ReduceSum <keepdims = 0> (x)
    c = Greater (m, zero)
    t = Tanh (x)
    a, b = If (c) <
        then_branch = yes () => (float[2, 4] p, float[2, 4] q) { p = Add (t, k) q = Mul (p, x) },
        else_branch = no () => (float[2, 4] r, float[2, 4] u) { r = Sub (t, k) u = Identity (x) }
    >
    s = Add (a, k)
    y = Add (s, b)
    z = Relu (b)
}"""


def parsed(text: str) -> ir.Model:
    proto = onnx.parser.parse_model(text)
    proto.graph.initializer.append(numpy_helper.from_array(np.linspace(-1, 1, 4, dtype=np.float32), "k"))
    proto.graph.initializer.append(numpy_helper.from_array(np.float32(0), "zero"))
    return ir.Model.from_proto(onnx.shape_inference.infer_shapes(proto))


def saved(model: ir.Model, folder: Path, half: bool) -> Package:
    save(convert(model, Settings(half=half), interface(model)).model, folder / "m.mlpackage")
    return Package.load(folder / "m.mlpackage")


@pytest.mark.parametrize("half", [False, True])
def test_both_branches_are_in_the_package(tmp_path: Path, half: bool) -> None:
    model = parsed(TEXT)
    package = saved(model, tmp_path, half)
    assert package.ops["cond"] == 1 and {"sub", "tanh"} <= package.ops.keys()
    run = Runner(model, SessionConfig("off"))
    for sign in (-1.0, 1.0):
        x = np.float32(sign) * np.abs(np.random.default_rng(0).normal(size=(2, 4))).astype(np.float32)
        wanted, got = run.run({"x": x}), package.run({"x": x})
        for name, value in wanted.items():
            np.testing.assert_allclose(got[name], value, rtol=1e-2 if half else 1e-6, atol=1e-2 if half else 1e-6)


def test_branches_of_two_shapes_are_refused_by_node_and_rule(tmp_path: Path) -> None:
    other = TEXT.replace("float[2, 4] u) {", "float[4, 2] u) {").replace("u = Identity (x)", "u = Transpose (x)")
    with pytest.raises(ModelError, match=r"If .*'q' as fp32 \['2', '4'\] and 'u' as fp32 \['4', '2'\]"):
        saved(parsed(other), tmp_path, half=False)


def test_what_has_no_form_in_a_branch_is_told_at_once(tmp_path: Path) -> None:
    odd = TEXT.replace("p = Add (t, k)", "p = Bernoulli (t)").replace("u = Identity (x)", "u = Bernoulli (x)")
    with pytest.raises(ModelError, match=r"2 of 11 nodes.*Bernoulli.*Bernoulli"):
        saved(parsed(odd), tmp_path, half=False)


LOOP = """<ir_version: 10, opset_import: ["" : 21]>
g (float[1, 4] x) => (float[1, 4] y, float[3, 1, 4] all) <int64 three = {3}> {
    y, all = Loop (three, , x) <
        body = b (int64 i, bool more, float[1, 4] v) => (bool on, float[1, 4] t, float[1, 4] s) {
        on = Identity (more) m = MatMul (v, w) t = Tanh (m) s = Neg (t) }> }"""


def test_a_loop_is_compiled_as_its_turns_and_its_weight_is_stored_once(tmp_path: Path) -> None:
    from qcompiler.compiler import compile
    from qcompiler.recipe import Recipe

    proto = onnx.parser.parse_model(LOOP)
    weight = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)
    proto.graph.initializer.append(numpy_helper.from_array(weight, "w"))
    onnx.save(proto, tmp_path / "loop.onnx")
    recipe = Recipe(precision="fp32", bench_seconds=0)
    result = compile(tmp_path / "loop.onnx", "coreml", output=tmp_path / "out", recipe=recipe)
    assert result.exit_status == 0
    package = Package.load(tmp_path / "out" / "loop.mlpackage")
    assert package.ops["tanh"] == 3 and not {"cond", "while_loop"} & package.ops.keys()
    x = np.ones((1, 4), np.float32)
    wanted = [np.tanh(x @ weight)]
    wanted += [np.tanh(wanted[0] @ weight)]
    wanted += [np.tanh(wanted[1] @ weight)]
    found = package.run({"x": x})
    np.testing.assert_allclose(found["y"], wanted[-1], rtol=1e-5)
    np.testing.assert_allclose(found["all"], -np.stack(wanted), rtol=1e-5)


def test_a_loop_of_unknown_length_is_refused_by_node_and_reason(tmp_path: Path) -> None:
    from qcompiler.compiler import compile
    from qcompiler.recipe import Recipe

    proto = onnx.parser.parse_model(LOOP.replace("(float[1, 4] x)", "(float[1, 4] x, int64 n)", 1)
                                    .replace("(three, ,", "(n, ,").replace(" <int64 three = {3}>", "")
                                    .replace("[3, 1, 4] all", "[k, 1, 4] all"))  # fmt: skip
    proto.graph.initializer.append(numpy_helper.from_array(np.eye(4, dtype=np.float32), "w"))
    proto.graph.node[0].name = "around"
    onnx.save(proto, tmp_path / "loop.onnx")
    with pytest.raises(ModelError, match=r"1 of 5 nodes.*Loop 'around': its trip count 'n' is computed"):
        compile(tmp_path / "loop.onnx", "coreml", recipe=Recipe(bench_seconds=0))


@pytest.mark.zoo
@pytest.mark.parametrize("half", [False, True])
def test_a_detector_of_speech_with_a_rank_0_input_converts(zoo: object, tmp_path: Path, half: bool) -> None:
    from qcompiler.compiler import compile
    from qcompiler.recipe import Recipe

    recipe = Recipe(precision="w8" if half else "fp32", bench_seconds=0, shapes={"batch": "1", "sequence": "576"})
    file = zoo.MODELS["silero_vad"].path  # type: ignore[attr-defined]
    result = compile(file, "coreml", output=tmp_path / "out", recipe=recipe)
    outputs = result.report.backend["evaluated"]["outputs"]  # type: ignore[index]
    assert result.exit_status == 0 and outputs.keys() == {"output", "stateN"}  # type: ignore[attr-defined]
    assert all(o["relative_error"] < (2e-3 if half else 1e-5) for o in outputs.values())  # type: ignore[attr-defined]
