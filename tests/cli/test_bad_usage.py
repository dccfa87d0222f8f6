"""Every mistake of the user: one line on stderr that says where and what, status 2, nothing written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import CNN, Run

MODEL, DATA = CNN / "model.onnx", CNN / "calibration.npz"
ORT = ("--target", "onnxruntime")
W4 = (*ORT, "--precision", "w4")

COMPILE: dict[str, tuple[tuple[object, ...], str]] = {
    "unknown option": ((MODEL, *ORT, "--quantise"), "No such option '--quantise'"),
    "mistyped option": ((MODEL, *ORT, "--methd", "mse"), "Did you mean one of: '--metadata', '--method', '--metric'"),
    "option without a value": ((MODEL, "--target"), "Option '--target' requires an argument"),
    "no model": (ORT, "MODEL is missing"),
    "missing file": (("gone.onnx", *ORT), "gone.onnx: no such file"),
    "two models": ((MODEL, "b.onnx", *ORT), "unexpected extra argument"),
    "a folder": ((CNN, *ORT), "is a folder, not an ONNX file"),
    "not a model": ((DATA, *ORT), "is a zip archive, not an ONNX model"),
    "no target": ((MODEL,), "--target: is missing: say what to compile for (known: onnxruntime"),
    "unknown target": ((MODEL, "--target", "tpu"), "--target: unknown target 'tpu' (known: onnxruntime"),
    "unknown variant": ((MODEL, "--target", "onnxruntime:z80"), "has no variant 'z80' (known: vnni"),
    "target twice": ((MODEL, *ORT, *ORT), "--target: 'onnxruntime' is given twice"),
    "unknown precision": ((MODEL, *ORT, "--precision", "int3"), "has no precision 'int3' (known: auto"),
    "precision that needs data": ((MODEL, *ORT, "--precision", "int8"), "precision 'int8' needs calibration data"),
    "unknown method": ((MODEL, *ORT, "--method", "magic"), "--method: unknown range method 'magic' (known: auto"),
    "bad max-drop": ((MODEL, *ORT, "--max-drop", "little"), "--max-drop: 'little' is not a share"),
    "max-drop out of range": ((MODEL, *ORT, "--max-drop", "150%"), "--max-drop: '150%' is out of range (from 0"),
    "max-drop without data": ((MODEL, *ORT, "--max-drop", "1%"), "--max-drop: a contract needs samples"),
    "shape without value": ((MODEL, *ORT, "--shape", "batch"), "--shape: 'batch' is not NAME=VALUE"),
    "shape that is no number": ((MODEL, *ORT, "--shape", "batch=one"), "--shape: 'batch=one' is not a shape"),
    "shape of nothing": ((MODEL, *ORT, "--shape", "depth=1"), "'depth' is neither an input nor a dynamic dimension"),
    "samples that are no number": ((MODEL, *ORT, "--samples", "few"), "--samples: 'few' is not a valid integer"),
    "no samples": ((MODEL, *ORT, "--samples", "0"), "--samples: 0 is out of range"),
    "threads": ((MODEL, *ORT, "--threads", "0"), "--threads: 0 is out of range"),
    "bench seconds": ((MODEL, *ORT, "--bench-seconds", "-1"), "--bench-seconds: -1.0 is out of range"),
    "cache in a state": (
        (MODEL, "--target", "coreml", "--kv-cache", "int8"), "states hold float16 alone, and inputs hold int8",
    ),
    "cache of unknown type": ((MODEL, *ORT, "--kv-cache", "int2"), "no cache is stored as int2 (known: int8, int4"),
    "cache in 4 bits": (
        (MODEL, "--target", "tensorrt", "--kv-cache", "int4"), "as int4: the builder ends in an internal error on it",
    ),
    "cache in FP8 on an old GPU": (
        (MODEL, "--target", "tensorrt:sm86", "--kv-cache", "fp8"), "a GPU before sm89 has no such type (known: int8)",
    ),
    "cache in FP8 on Hexagon": (
        (MODEL, "--target", "qnn", "--kv-cache", "fp8"), "activations are integers of 8 or 16 bits there (known: int8)",
    ),
    "average over all": ((MODEL, *W4, "--average-bits", "9"), "layers have 2, 3, 4, 8 bits, so they have no 9"),
    "average under all": ((MODEL, *W4, "--average-bits", "1.5"), "so they have no 1.5 on average"),
    "average and bits": ((MODEL, *W4, "--average-bits", "3", "--bits", "4"), "--bits says what every layer has"),
    "average and format": ((MODEL, *W4, "--average-bits", "3", "--format", "nf4"), "--format says what every"),
    "average of portable": ((MODEL, *W4, "--average-bits", "3", "--portable"), "layers have 4, 8 bits, so they"),
    "unknown format": ((MODEL, *W4, "--format", "nf5"), "--format: there is no format 'nf5' (known: int, ternary"),
    "bits of no format": ((MODEL, *W4, "--format", "nf4", "--bits", "3"), "format nf4 has no weights of 3 bits (4)"),
    "block of no format": ((MODEL, *W4, "--format", "mxfp4", "--block", "64"), "mxfp4 has no blocks of 64 (32)"),
    "unknown bits": ((MODEL, *W4, "--bits", "5"), "--bits: format int has no weights of 5 bits (2, 3, 4 or 8)"),
    "bits of no table": ((MODEL, *W4, "--table-bits", "3"), "tables have no kernel for 3 bits (0, 2, 4, 8)"),
    "portable bits": (
        (MODEL, *W4, "--portable", "--bits", "3"), "--portable: no DequantizeLinear of ONNX Runtime reads 3 bits",
    ),
    "missing recipe": ((MODEL, *ORT, "--recipe", "gone.toml"), "gone.toml: cannot be read"),
    "recipe that is not TOML": ((MODEL, *ORT, "--recipe", MODEL), "is not TOML"),
    "missing data": ((MODEL, *ORT, "--data", "gone.npz"), "gone.npz: there is no such file"),
    "missing evaluation data": ((MODEL, *ORT, "--data", DATA, "--eval", "gone.npz"), "gone.npz: there is no such file"),
    "missing statistics": ((MODEL, *ORT, "--stats", "gone.npz"), "gone.npz: no such file"),
    "data as statistics": ((MODEL, *ORT, "--stats", DATA), "is no file of statistics"),
    "pattern that matches nothing": (
        (MODEL, *ORT, "--data", DATA, "--samples", "2", "--keep-float", "hed*"), "pattern 'hed*' matches no node",
    ),
    "metric that is not there": (
        (MODEL, *ORT, "--data", DATA, "--samples", "2", "--metric", "no.such:thing"), "no.such:thing",
    ),
    "output is a file": ((MODEL, *ORT, "-o", MODEL), "is a file, not a folder"),
    "output is not ours": ((MODEL, *ORT, "-o", CNN), "holds files that qcompile did not write"),
}  # fmt: skip

OTHERS: dict[str, tuple[tuple[object, ...], str]] = {
    "calibrate without data": (("calibrate", MODEL, *ORT), "--data is missing"),
    "calibrate without target": (("calibrate", MODEL, "--data", DATA), "--target is missing"),
    "calibrate over data": (("calibrate", MODEL, *ORT, "--data", DATA, "-o", DATA), "qcompile did not write"),
    "calibrate into a folder": (("calibrate", MODEL, *ORT, "--data", DATA, "-o", CNN), "is a folder, not a file"),
    "calibrate into nowhere": (("calibrate", MODEL, *ORT, "--data", DATA, "-o", "a/b.npz"), "there is no such folder"),
    "merge of what is not there": (
        ("calibrate", MODEL, *ORT, "--data", DATA, "--samples", "2", "--merge", "gone.npz"), "gone.npz: no such file",
    ),
    "inspect without model": (("inspect",), "MODEL is missing (qcompile inspect --help)"),
    "inspect a missing file": (("inspect", "gone.onnx"), "gone.onnx: no such file"),
    "explain a folder that is none": (("explain", CNN), "holds no report.json"),
    "compare without data": (("compare", MODEL, MODEL), "--data is missing"),
    "compare a folder without model": (("compare", MODEL, CNN / "..", "--data", DATA), "holds no model.onnx"),
    "compare with top 0": (("compare", MODEL, MODEL, "--data", DATA, "--top", "0"), "--top: 0 is not in the range"),
    "bench nothing": (("bench",), "MODELS is missing"),
    "bench open dimensions": (("bench", MODEL), "has open dimensions: batch (--shape batch=1"),
    "bench the same": (("bench", MODEL, MODEL, "--shape", "batch=1"), "a model is given twice"),
    "unknown target to list": (("targets", "tpu"), "unknown target 'tpu'"),
}  # fmt: skip


@pytest.mark.parametrize("name", [*COMPILE, *OTHERS])
def test_one_line_status_2_nothing_written(run: Run, name: str) -> None:
    args, words = {**COMPILE, **OTHERS}[name]
    before = {path: path.stat().st_mtime_ns for path in CNN.iterdir()}
    result = run(*args)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1 and result.stderr.startswith("qcompile: error: "), result.stderr
    assert words in result.stderr
    assert list(Path.cwd().iterdir()) == []
    assert {path: path.stat().st_mtime_ns for path in CNN.iterdir()} == before


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("precison = 'int8'", "r.toml: recipe: unknown key 'precison'"),
        ("samples = 'many'", "r.toml: samples: 'many' is not of the right kind"),
        ("method = 'magic'", "r.toml: method: unknown range method 'magic'"),
        ("[methods]\nx = 'magic'", "r.toml: methods.x: unknown range method 'magic'"),
    ],
)
def test_faults_in_a_recipe_name_the_file_and_the_key(run: Run, text: str, words: str) -> None:
    Path("r.toml").write_text(text)
    result = run(MODEL, *ORT, "--recipe", "r.toml")
    assert result.exit_code == 2 and words in result.stderr and len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"picture": np.zeros((2, 1, 32, 32), np.float32)}, "image"),
        ({"image": np.zeros((2, 1, 16, 32), np.float32)}, "image"),
        ({"image": np.zeros((2, 1, 32, 32), np.complex64)}, "image"),
        ({"image": np.zeros((0, 1, 32, 32), np.float32)}, "no samples"),
        ({"image": np.full((2, 1, 32, 32), np.nan, np.float32)}, "nan"),
    ],
)
def test_data_that_does_not_fit(run: Run, arrays: dict[str, np.ndarray], words: str) -> None:
    np.savez("d.npz", **arrays)
    result = run(MODEL, *ORT, "--data", "d.npz", "-o", "out")
    assert result.exit_code == 2 and words in result.stderr and len(result.stderr.splitlines()) == 1, result.stderr
    assert [path.name for path in Path.cwd().iterdir()] == ["d.npz"]
