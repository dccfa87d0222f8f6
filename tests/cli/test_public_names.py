from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import qcompiler
from tests.cli.conftest import CNN


def test_the_public_names_exist_and_are_few() -> None:
    assert len(qcompiler.__all__) <= 15 and len(set(qcompiler.__all__)) == len(qcompiler.__all__)
    for name in qcompiler.__all__:
        assert getattr(qcompiler, name) is not None
    assert dir(qcompiler) == sorted(qcompiler.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'quantize'"):
        qcompiler.quantize  # noqa: B018


def test_importing_the_package_loads_nothing() -> None:
    code = "import sys, qcompiler; print(sorted(name for name in sys.modules if name.startswith('qcompiler')))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "['qcompiler', 'qcompiler._version']\n"


def test_the_api_gives_what_the_command_gives(tmp_path: Path) -> None:
    recipe = qcompiler.Recipe(precision="int8", method="minmax", samples=8, bench_seconds=0)
    result = qcompiler.compile(
        CNN / "model.onnx", "onnxruntime", CNN / "calibration.npz", output=tmp_path / "o", recipe=recipe
    )
    assert result.exit_status == 0 and result.folder == tmp_path / "o"
    assert result.report == qcompiler.Report.from_json((tmp_path / "o" / "report.json").read_text(encoding="utf-8"))
    assert qcompiler.summary(result.report).startswith(
        "model.onnx -> onnxruntime:vnni, int8, minmax ranges from 8 samples"
    )
    assert [t.name for t in qcompiler.load(tmp_path / "o" / "model.onnx").outputs] == ["logits"]
