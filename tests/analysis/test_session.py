from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from qcompiler import ir
from qcompiler.analysis.cpu import cpu_flags
from qcompiler.analysis.run import Runner, SessionConfig
from qcompiler.analysis.session import (
    DISABLED,
    FILE,
    KEY,
    MODEL,
    OPTIMIZED,
    Checked,
    config_at,
    config_from,
    config_of,
    mark,
    options_json,
    session,
    snippet,
    write_session,
)
from qcompiler.errors import DataError, ModelError
from tests.graphs import parse

WITHOUT = SessionConfig(threads=2, disabled_optimizers=("SkipLayerNormFusion", "MatMulAddFusion"))
X = {"x": np.linspace(-1, 1, 64, dtype=np.float32).reshape(1, 4, 16)}


def norm() -> ir.Model:
    """Add and LayerNormalization, which ONNX Runtime makes one."""
    return parse(
        "g (float[1,4,16] x) => (float[1,4,16] y) { s = Add(x, x)\n y = LayerNormalization<axis = -1>(s, w, b) }",
        {"w": np.ones(16, np.float32), "b": np.zeros(16, np.float32)},
    )


def folder_of(path: Path, config: SessionConfig, *, optimized: bool = False) -> Path:
    model = norm()
    mark(model, config)
    path.mkdir()
    ir.save(model, path / MODEL)
    write_session(path, config, Checked(ort.__version__, {"Add": 1}), optimized=optimized)
    return path


def ops_of(made: ort.InferenceSession) -> str:
    """How the session was told to leave optimizers out."""
    return str(made.get_session_options().get_session_config_entry(DISABLED))


def test_options_survive_a_round_trip_as_text_and_as_metadata(tmp_path: Path) -> None:
    config = SessionConfig("extended", 3, ("NhwcTransformer",), (("session.disable_prepacking", "0"),))
    assert config_from(json.dumps(options_json(config))) == config
    model = norm()
    mark(model, SessionConfig(threads=9))
    mark(model, config)
    assert [entry.key for entry in model.header.metadata_props] == [KEY]
    ir.save(model, tmp_path / "m.onnx")
    assert config_of(ir.load(tmp_path / "m.onnx")) == config
    assert config_of(ir.load(tmp_path / "m.onnx"), threads=1).threads == 1
    assert config_of(norm()) == SessionConfig()


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"schema": 2, "level": "all", "threads": 1, "disabled_optimizers": [], "entries": {}}',
     '{"schema": 1, "level": "most", "threads": 1, "disabled_optimizers": [], "entries": {}}',
     '{"schema": 1, "level": "all", "threads": 0, "disabled_optimizers": [], "entries": {}}',
     '{"schema": 1, "level": "all", "threads": 1, "disabled_optimizers": "A", "entries": {}}'],
)  # fmt: skip
def test_what_holds_no_options_is_refused(text: str) -> None:
    with pytest.raises(DataError, match="session options"):
        config_from(text, "here")


def test_session_json_wins_over_the_metadata(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "out", WITHOUT)
    model = ir.load(folder / MODEL)
    mark(model, SessionConfig(disabled_optimizers=("NhwcTransformer",)))
    assert config_at(folder, model) == WITHOUT
    assert config_at(folder / MODEL, model).disabled_optimizers == ("NhwcTransformer",)


def test_the_entry_of_the_snippet_disables_what_the_list_of_the_session_disables(tmp_path: Path) -> None:
    path, seen = tmp_path / "m.onnx", []
    ir.save(norm(), path)
    for number, way in enumerate(("neither", "list", "entry")):
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.optimized_model_filepath = str(tmp_path / f"{number}.onnx")
        off = ["MatMulAddFusion", "SkipLayerNormFusion"]
        if way == "entry":
            options.add_session_config_entry(DISABLED, ";".join(off))
        ort.InferenceSession(str(path), options, disabled_optimizers=off if way == "list" else None)
        seen.append([node.op_type for node in onnx.load(tmp_path / f"{number}.onnx").graph.node])
    assert seen == [["SkipLayerNormalization"], ["Add", "LayerNormalization"], ["Add", "LayerNormalization"]]


def test_the_snippet_is_six_lines_that_run_and_apply_the_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = snippet(WITHOUT)
    assert len(lines) == 6 and max(map(len, lines)) <= 78
    monkeypatch.chdir(folder_of(tmp_path / "out", WITHOUT))
    names: dict[str, ort.InferenceSession] = {}
    exec("\n".join(lines), names)
    assert names["session"].get_session_options().intra_op_num_threads == 2
    assert ops_of(names["session"]) == "SkipLayerNormFusion;MatMulAddFusion"
    np.testing.assert_allclose(names["session"].run(None, X)[0], session(tmp_path / "out").run(None, X)[0], atol=1e-6)


def test_the_snippet_without_options_is_shorter_and_a_lower_level_is_said() -> None:
    assert len(snippet(SessionConfig())) == 4
    assert any("ORT_ENABLE_EXTENDED" in line for line in snippet(SessionConfig("extended")))


def test_the_loader_applies_the_options_of_a_folder_or_a_model(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "out", WITHOUT)
    wanted = Runner(norm()).run(X)["y"]
    for path in (folder, folder / MODEL, str(folder)):
        made = session(path)
        assert made.get_session_options().intra_op_num_threads == 2
        assert session(path, threads=1).get_session_options().intra_op_num_threads == 1
        np.testing.assert_allclose(made.run(None, X)[0], wanted, atol=1e-6)
    ir.save(norm(), tmp_path / "plain.onnx")
    assert session(tmp_path / "plain.onnx").get_session_options().intra_op_num_threads == 1


def test_the_loader_says_what_is_missing_or_damaged(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no model"):
        session(tmp_path)
    (tmp_path / "m.onnx").write_bytes(b"no model")
    with pytest.raises(ModelError):
        session(tmp_path / "m.onnx")
    folder = folder_of(tmp_path / "out", WITHOUT)
    (folder / FILE).write_text("{")
    with pytest.raises(DataError, match="session options"):
        session(folder)


def test_session_json_holds_options_version_cpu_and_operators_and_no_time(tmp_path: Path) -> None:
    facts = json.loads((folder_of(tmp_path / "out", WITHOUT) / FILE).read_text())
    assert facts == {
        **options_json(WITHOUT),
        "checked": {"onnxruntime": ort.__version__, "cpu": list(cpu_flags()), "ops": {"Add": 1}},
    }


def loaded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The file that the loader takes."""
    paths: list[str] = []
    real = ort.InferenceSession

    def spy(path: str, *args: Any, **options: Any) -> ort.InferenceSession:
        paths.append(path)
        return real(path, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(ort, "InferenceSession", spy)
        session(folder)
    return Path(paths[0]).name


def test_the_cache_is_used_for_the_same_runtime_cpu_and_model_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_of(tmp_path / "out", SessionConfig(), optimized=True)
    assert [node.op_type for node in onnx.load(folder / OPTIMIZED).graph.node] == ["SkipLayerNormalization"]
    assert loaded(folder, monkeypatch) == OPTIMIZED
    np.testing.assert_allclose(session(folder).run(None, X)[0], Runner(norm()).run(X)["y"], atol=1e-6)
    facts = json.loads((folder / FILE).read_text())
    for key, value in (("onnxruntime", "0.0"), ("cpu", ["z80"]), ("model_bytes", 1)):
        changed = {**facts, "optimized": {**facts["optimized"], key: value}}
        (folder / FILE).write_text(json.dumps(changed))
        assert loaded(folder, monkeypatch) == MODEL, key
    (folder / FILE).write_text(json.dumps(facts))
    (folder / OPTIMIZED).unlink()
    assert loaded(folder, monkeypatch) == MODEL


def test_cpu_flags_are_those_that_matter_and_the_architecture(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("processor : 0\nflags\t\t: fpu avx2 avx512_vnni sse\n")
    assert cpu_flags(tmp_path / "cpuinfo")[1:] == ("avx2", "avx512_vnni")
    assert len(cpu_flags(tmp_path / "none")) == 1
