"""Fixtures: running the command in this process, and one compile that many tests look at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import chdir
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from qcompiler.cli.main import main

CNN = Path(__file__).resolve().parents[2] / "models" / "digits_cnn"
FAST = ("--samples", "24", "--bench-seconds", "0")

Run = Callable[..., Result]


def qcompile(*args: object) -> Result:
    """Runs `qcompile` with these arguments."""
    return CliRunner().invoke(main, [str(arg) for arg in args], catch_exceptions=False)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """`qcompile` in an empty folder."""
    with chdir(tmp_path):
        yield qcompile


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a compile of digits_cnn, precision int8."""
    folder = tmp_path_factory.mktemp("compiled") / "out"
    result = qcompile(
        CNN / "model.onnx", "--target", "onnxruntime", "--precision", "int8", "--data", CNN / "calibration.npz",
        "-o", folder, *FAST,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    return folder
