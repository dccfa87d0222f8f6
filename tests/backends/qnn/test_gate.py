"""What Qualcomm's own library makes of the artifacts, in processes of its own; skipped where it is not installed."""

import json
from pathlib import Path

import numpy as np
import pytest

from qcompiler.backends.qnn import gate, runtime
from qcompiler.backends.qnn.backend import Qnn
from qcompiler.backends.qnn.socs import ARCHES
from qcompiler.backends.qnn.spec import LACKS
from qcompiler.passes.fusion.expand_operators import ExpandOperators
from qcompiler.passes.prepare.finite_masks import FiniteMasks
from qcompiler.pipeline import Pipeline
from qcompiler.quant.qtype import INT16
from qcompiler.search.candidates import Candidate, Drafter
from tests.backends.qnn.helper import attention, built, convnet, need_qnn, quantized, widened
from tests.graphs import parse


def test_a_convnet_compiles_whole_and_is_right(tmp_path: Path) -> None:
    need_qnn()
    model = convnet()
    found = built(quantized(model, "w8a8"), model, tmp_path)
    assert found.compiled and found.executed and not found.failures and not found.fallback
    assert found.float_nodes == 0 and found.boundaries == 0 and found.integer_nodes == len(model.nodes)
    facts = found.facts
    assert facts["partitions"] == 1 and facts["islands"] == []
    (check,) = [emulation["outputs"]["y"] for emulation in facts["emulation"]]  # type: ignore[attr-defined]
    assert check["qdq_db"] is None or check["qdq_db"] > 30
    assert {entry["precision"] for entry in facts["nodes"]} == {"w8a8"}  # type: ignore[attr-defined]
    names = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert names >= {
        "model.qdq.onnx", "model_ctx.onnx", "model_ctx_qnn.bin", "model.encodings.json", "manifest.json",
        "qnn_op_trace.json", "input_list.txt", "samples/0000/x.raw", "samples/0002/y.output.raw",
    }  # fmt: skip
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["socs"][0]["number"] == 57 and manifest["ep_compatibility_info"].split(":")[5] == "57"
    assert (tmp_path / "input_list.txt").read_text().splitlines()[0] == "x:=samples/0000/x.raw"
    assert (tmp_path / "samples/0000/x.raw").stat().st_size == 3 * 8 * 8 * 4


def test_the_binary_does_not_depend_on_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need_qnn()
    model, folders = convnet(), [Path("here"), tmp_path / "elsewhere" / "deeper"]
    monkeypatch.chdir(tmp_path)
    for folder in folders:
        folder.mkdir(parents=True)
        assert built(quantized(model, "w8a8"), model, folder).compiled
    files = ("model_ctx_qnn.bin", "model_ctx.onnx", "qnn_op_trace.json")
    found = [[next(folder.rglob(name)).read_bytes() for name in files] for folder in folders]
    assert found[0] == found[1]


def test_attention_keeps_16_bits(tmp_path: Path) -> None:
    need_qnn()
    model = attention(norm=False)
    found = built(quantized(model, "w8a16"), model, tmp_path)
    assert not found.failures and found.facts["islands"] == [] and found.ops["Convert"] == 2
    (emulation,) = found.facts["emulation"]  # type: ignore[misc]
    assert emulation["outputs"]["y"]["qdq_db"] > 50  # 40 with an unsigned second operand


@pytest.mark.parametrize("name", ARCHES)
def test_every_architecture_compiles_what_it_has(name: str, tmp_path: Path) -> None:
    """int16 operands and float16 where the chip has them; norms in integers everywhere."""
    need_qnn()
    model, backend = attention(), Qnn(name)
    candidate = quantized(model, "w8a16", backend)
    found = built(candidate, model, tmp_path, backend, samples=1)
    assert found.compiled and not found.failures and found.facts["islands"] == []
    signed = any(d.choice is not None and d.choice.qtype is INT16 for _, d in candidate.plan.quantized())
    (emulation,) = found.facts["emulation"]  # type: ignore[misc]
    assert signed == (backend.arch >= 73) and emulation["outputs"]["y"]["qdq_db"] > (50 if signed else 30)
    assert ("fp16" in backend.spec.schemes) == (backend.arch > 68)
    assert json.loads((tmp_path / "manifest.json").read_text())["socs"][0]["arch"] == backend.arch


NEVER = -float("inf")
APART = {"w8a8": 30, "w8a16": 55, "w4a8": 30, "w4a16": 45}


@pytest.mark.parametrize(
    ("precision", "mask"),
    [("w8a8", -1e4), ("w8a16", float(np.finfo(np.float32).min)), *((precision, NEVER) for precision in APART)],
)
def test_a_mask_leaves_the_scores_as_they_are(precision: str, mask: float, tmp_path: Path) -> None:
    """20 and 1 dB from QDQ with the mask as it stands: the processor scales both operands of Add by the larger."""
    need_qnn()
    rng = np.random.default_rng(0)
    constants = {name: (rng.normal(size=(16, 16)) / 4).astype(np.float32) for name in ("wq", "wk", "wv")}
    constants["m"] = np.triu(np.full((1, 8, 8), mask, np.float32), 1)
    text = """g (float[1,8,16] x) => (float[1,8,16] y) {
        q = MatMul(x, wq) k = MatMul(x, wk) v = MatMul(x, wv) t = Transpose<perm=[0,2,1]>(k)
        e = MatMul(q, t) s = Add(e, m) a = Softmax(s) y = MatMul(a, v)
    }"""
    model = parse(text, constants)
    ready = model.copy()
    Pipeline().graph(ready, [FiniteMasks()])
    found = built(quantized(ready, precision), model, tmp_path)
    (emulation,) = found.facts["emulation"]  # type: ignore[misc]
    assert not found.failures and found.facts["islands"] == []
    assert emulation["outputs"]["y"]["qdq_db"] > APART[precision]
    assert emulation["outputs"]["y"]["float_db"] > (20 if precision == "w8a8" else 30 if precision == "w8a16" else 8)


@pytest.mark.parametrize("precision", ["w8a8", "w8a16"])
def test_a_length_is_no_island(precision: str, tmp_path: Path) -> None:
    need_qnn()
    text = "g (float[4,64] x) => (float[4,64] y) { t = Tanh(x) n = ReduceL2<keepdims=1>(t, one) y = Div(t, n) }"
    model = parse(text, {"one": np.int64([1])})
    Pipeline().graph(model, [ExpandOperators(LACKS)])
    found = built(quantized(model, precision), model, tmp_path)
    assert not found.failures and found.facts["islands"] == [] and "ReduceSum" in found.ops


def test_a_float16_island_is_named_and_meant(tmp_path: Path) -> None:
    need_qnn()
    model = convnet()
    pool = next(node.name for node in model.nodes if node.op == "GlobalAveragePool")
    found = built(quantized(model, "w8a8", keep_float=(pool,)), model, tmp_path)
    assert not found.failures and found.facts["islands"] == [{"node": pool, "op": "GlobalAveragePool", "planned": True}]
    assert next(e for e in found.facts["nodes"] if e["node"] == pool)["precision"] == "float16"  # type: ignore[attr-defined]


def test_v68_has_no_floating_point_whatever_the_emulator_does(tmp_path: Path) -> None:
    need_qnn()
    model = convnet()
    pool = next(node.name for node in model.nodes if node.op == "GlobalAveragePool")
    backend = Qnn("sm8350")
    found = built(quantized(model, "w8a8", backend, keep_float=(pool,)), model, tmp_path, backend, samples=0)
    assert any("sm8350 (v68) has no floating point" in failure and pool in failure for failure in found.failures)


def unshared() -> Candidate:
    """A pool whose result has a grid of its own."""
    model = convnet()
    candidate = quantized(model, "w8a8")
    proto = candidate.model.to_proto()
    quantizer = next(node for node in proto.graph.node if node.name == "m_quantize")
    scale = next(t for t in proto.graph.initializer if t.name == quantizer.input[1])
    other = type(scale)()
    other.CopyFrom(scale)
    other.name = "other"
    other.raw_data = (np.frombuffer(scale.raw_data, np.float32) * np.float32(1.3)).tobytes()
    proto.graph.initializer.append(other)
    for node in proto.graph.node:
        if node.name in ("m_quantize", "m_dequantize"):
            node.input[1] = "other"
    from dataclasses import replace

    from qcompiler import ir

    return replace(candidate, model=ir.Model.from_proto(proto))


def test_an_island_that_nobody_planned_fails(tmp_path: Path) -> None:
    need_qnn()
    found = built(unshared(), convnet(), tmp_path, samples=0)
    pool = next(node.name for node in convnet().nodes if node.op == "MaxPool")
    assert [surprise.node for surprise in found.surprises] == [pool]
    assert any("float16 where integers were planned" in failure for failure in found.failures)


def test_an_island_is_allowed_by_name(tmp_path: Path) -> None:
    need_qnn()
    found = built(unshared(), convnet(), tmp_path, Qnn(allow=("*MaxPool",)), samples=0)
    assert not found.failures and found.facts["islands"]


def test_a_node_without_a_form_is_reported_and_the_rest_is_kept(tmp_path: Path) -> None:
    need_qnn()
    model = parse("g (float[1,4] x) => (float[1,4] y) { r = Relu(x) h = Hardmax(r) y = Tanh(h) }")
    found = built(quantized(model, "w8a8"), model, tmp_path, samples=0)
    hardmax = model.nodes[1].name
    assert not found.compiled and [fallback.node for fallback in found.fallback] == [hardmax]
    assert "not supported by QNN EP" in found.fallback[0].rule
    assert any("strict compile is refused" in failure and hardmax in failure for failure in found.failures)
    assert (tmp_path / "model_ctx.onnx").exists()


def test_a_node_that_is_refused_in_integers_goes_on_in_float16(tmp_path: Path) -> None:
    need_qnn()
    model = parse("g (float[1,8,4,4] x) => (float[1,8,4,4] y) { r = Relu(x) l = LRN<size=3>(r) y = Tanh(l) }")
    found = built(widened(quantized(model, "w8a8")), model, tmp_path, samples=0)
    assert found.compiled and not found.failures
    assert any(f"{model.nodes[1].name} was turned to float16" in note for note in found.notes)


def test_several_chips_in_one_context(tmp_path: Path) -> None:
    need_qnn()
    model, backend = convnet(), Qnn("sm8550,sm8650")
    found = built(quantized(model, "w8a8", backend), model, tmp_path, backend, samples=1)
    assert found.compiled and [e["soc"] for e in found.facts["emulation"]] == ["sm8550", "sm8650"]  # type: ignore[attr-defined]
    assert [soc["number"] for soc in json.loads((tmp_path / "manifest.json").read_text())["socs"]] == [43, 57]


def test_the_binary_may_lie_in_the_onnx_file(tmp_path: Path) -> None:
    need_qnn()
    model, backend = convnet(), Qnn(embed=True)
    found = built(quantized(model, "w8a8", backend), model, tmp_path, backend, samples=1)
    assert found.compiled and found.executed
    assert [path.name for path in tmp_path.glob("model_ctx*")] == ["model_ctx.onnx"]


def test_mixed_has_conversions_and_no_islands(tmp_path: Path) -> None:
    need_qnn()
    model = convnet()
    backend = Qnn(a16=(model.nodes[0].name,))
    found = built(quantized(model, "mixed", backend), model, tmp_path, backend, samples=1)
    assert found.compiled and not found.failures and found.facts["islands"] == [] and found.ops["Convert"] == 1


def test_float16_of_a_float_model(tmp_path: Path) -> None:
    need_qnn()
    model = convnet()
    candidate = Drafter(model, Qnn()).floating(model)[0]
    found = built(candidate, model, tmp_path, samples=1)
    assert found.compiled and not found.failures and found.integer_nodes == 0 and found.float_nodes > 0


def test_without_the_extra_the_rest_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "versions", lambda: f"the package onnxruntime-qnn is not installed ({runtime.INSTALL})")
    model = convnet()
    found = built(quantized(model, "w8a8"), model, tmp_path)
    assert not found.compiled and not found.failures and "pip install 'qcompiler[qnn]'" in found.notes[0]
    assert (tmp_path / "model.qdq.onnx").is_file() and (tmp_path / "samples/0000/x.raw").is_file()
