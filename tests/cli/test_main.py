"""The command as a whole: its two forms, help, and what becomes of errors."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest

import qcompiler
from qcompiler import compiler
from qcompiler.cli.main import main
from qcompiler.errors import ContractError, DataError, VerifyError
from tests.cli.conftest import CNN, Run

COMMANDS = ("calibrate", "inspect", "explain", "compare", "bench", "targets")


def test_help_teaches(run: Run) -> None:
    result = run("--help")
    assert result.exit_code == 0 and result.stderr == ""
    for part in (
        "qcompile MODEL --target",
        "Examples:",
        "Exit status:",
        "--max-drop",
        "--keep-float",
        "docs/",
        *COMMANDS,
    ):
        assert part in result.stdout
    for status in ("0", "1", "2", "3", "4", "130"):
        assert f"\n    {status}  " in result.stdout
    assert run("-h").stdout == result.stdout


def test_help_fits_a_terminal(run: Run) -> None:
    for command in (*([name] for name in main.commands), []):
        lines = run(*command, "--help").stdout.splitlines()
        assert lines and [line for line in lines if len(line) > 80] == []


@pytest.mark.parametrize("command", ["compile", *COMMANDS])
def test_every_command_has_help(run: Run, command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0 and "Usage:" in result.stdout


def test_every_option_says_what_it_does() -> None:
    for command in main.commands.values():
        for option in command.params:
            assert not isinstance(option, click.Option) or option.help, (command.name, option.name)


def test_no_arguments_show_the_help_and_fail(run: Run) -> None:
    result = run()
    assert result.exit_code == 2 and "Examples:" in result.stdout


def test_version(run: Run) -> None:
    assert run("--version").stdout == f"qcompile, version {qcompiler.__version__}\n"


@pytest.mark.parametrize(
    ("args", "model"),
    [
        (("m.onnx", "--target", "onnxruntime"), "m.onnx"),
        (("--target", "onnxruntime", "m.onnx"), "m.onnx"),
        (("-q", "m.onnx", "--target", "onnxruntime"), "m.onnx"),
        (("compile", "m.onnx", "--target", "onnxruntime"), "m.onnx"),
        (("./inspect", "--target", "onnxruntime"), "inspect"),
        (("--target", "onnxruntime", "inspect"), "inspect"),
    ],
)
def test_compile_is_what_happens_without_a_command(
    run: Run, monkeypatch: pytest.MonkeyPatch, args: tuple[str, ...], model: str
) -> None:
    seen = []

    def fake(path: Path, target: str, data: object = None, **options: object) -> None:
        seen.append((path, target))
        raise ContractError("enough")

    monkeypatch.setattr(compiler, "compile", fake)
    Path(model).touch()
    assert run(*args).exit_code == 3
    assert seen == [(Path(model), "onnxruntime")]


def test_a_mistyped_command_is_recognised(run: Run) -> None:
    result = run("inspct", "--target", "onnxruntime")
    assert result.exit_code == 2
    assert result.stderr == "qcompile: error: inspct: no such file (or the command inspect?)\n"


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (DataError("is wrong", where="x.npz", hint="fix it"), 2, "qcompile: error: x.npz: is wrong (fix it)\n"),
        (ContractError("the drop is 3%"), 3, "qcompile: error: the drop is 3%\n"),
    ],
)
def test_expected_errors_are_one_line(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int, text: str
) -> None:
    def fail(*args: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(compiler, "compile", fail)
    result = run(CNN / "model.onnx", "--target", "onnxruntime")
    assert (result.exit_code, result.stdout, result.stderr) == (status, "", text)


@pytest.mark.parametrize("error", [ZeroDivisionError("oops"), VerifyError("two producers", where="t1")])
def test_faults_of_the_compiler_show_a_traceback_and_ask_for_a_report(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*args: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(compiler, "compile", fail)
    result = run(CNN / "model.onnx", "--target", "onnxruntime")
    assert result.exit_code == 1 and result.stdout == ""
    assert "Traceback" in result.stderr and str(error) in result.stderr
    assert "please report it" in result.stderr.splitlines()[-1]


def test_out_of_memory_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **options: object) -> None:
        raise MemoryError

    monkeypatch.setattr(compiler, "compile", fail)
    result = run(CNN / "model.onnx", "--target", "onnxruntime")
    assert result.exit_code == 1 and len(result.stderr.splitlines()) == 1


def test_python_m_and_the_installed_command_are_the_same() -> None:
    installed = Path(sys.executable).with_name("qcompile")
    texts = [
        subprocess.run(command, capture_output=True, text=True, check=True).stdout
        for command in ([sys.executable, "-m", "qcompiler", "--help"], [installed, "--help"])
    ]
    assert texts[0] == texts[1]


def test_help_loads_nothing_heavy() -> None:
    code = "import sys; sys.argv = ['qcompile', '--help']\nimport runpy\n"
    code += "try: runpy.run_module('qcompiler', run_name='__main__')\nexcept SystemExit: pass\n"
    code += "heavy = {'numpy', 'onnx', 'onnxruntime', 'rich', 'scipy', 'networkx', 'onnx_graphsurgeon'}\n"
    code += "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stderr == "[]\n"


def test_a_reader_that_goes_away_is_no_fault(tmp_path: Path) -> None:
    command = f"{sys.executable} -m qcompiler inspect {CNN / 'model.onnx'} --nodes | head -1"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=tmp_path)
    assert result.stdout.startswith("model.onnx:") and result.stderr == ""
