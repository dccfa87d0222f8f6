"""What lies beside the model for whoever deploys it: build script, checks, manifest, golden inputs and outputs.

Engines are tied to the version of TensorRT, so the plan is built on site (fact sheet, section 7).
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from qcompiler import ir
from qcompiler.analysis import Runner, SessionConfig
from qcompiler.backends.base import Job
from qcompiler.backends.tensorrt.manifest import manifest
from qcompiler.backends.tensorrt.profile import Bounds, Shape
from qcompiler.passes.lower.cache_fixed import E4M3

if TYPE_CHECKING:
    from qcompiler.backends.tensorrt.backend import TensorRT

GOLDEN = "golden"
Arrays = dict[str, npt.NDArray[Any]]


def ship(job: Job, backend: TensorRT, bounds: Mapping[str, Bounds], facts: Mapping[str, object]) -> None:
    """Writes it all into the job's folder."""
    folder = job.folder
    feed = golden_feed(job, bounds)
    results = golden_results(backend, job, feed)
    raw = write_golden(folder / GOLDEN, feed, results)
    write_script(folder / "trt_build.sh", build_script(job.model, bounds, raw))
    write_script(folder / "polygraphy_check.sh", polygraphy_script(bounds))
    (folder / "golden.py").write_text(LOADER, encoding="utf-8")
    (folder / "build_report.json").write_text(text({"tensorrt_rtx": backend.version, **facts}), encoding="utf-8")
    (folder / "manifest.json").write_text(text(manifest(job, backend, bounds, raw)), encoding="utf-8")


def text(value: object) -> str:
    """JSON for people."""
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


# ---- golden
def golden_feed(job: Job, bounds: Mapping[str, Bounds]) -> Arrays:
    """The first sample; without data ones of the usual shape, which say whether an engine runs, not how well.

    So are caches in codes, of which samples know nothing. Numbers of 8-bit floats are given by their bits.
    """
    found: Arrays = {}
    if job.samples is not None:
        types = {tensor.name: tensor.dtype for tensor in job.model.inputs}
        given = {name: np.asarray(value) for name, value in next(iter(job.samples)).feed.items()}
        found = {name: value for name, value in given.items() if types.get(name) == value.dtype}
    for tensor in [tensor for tensor in job.model.inputs if tensor.name not in found]:
        shape = bounds[tensor.name][1] if tensor.name in bounds else tuple(tensor.shape or ())
        ones = np.ones(shape, np.float32 if tensor.dtype is None else tensor.dtype)
        found[tensor.name] = ones.view(np.uint8) if ones.dtype == E4M3 else ones
    return found


def golden_results(backend: TensorRT, job: Job, feed: Arrays) -> Arrays:
    """What ONNX Runtime computes from it."""
    runner = Runner(backend.simulate(job.model), SessionConfig(entries=backend.host.entries))
    return {name: np.asarray(values) for name, values in runner.run(feed).items()}


def write_golden(folder: Path, feed: Arrays, results: Arrays) -> dict[str, str]:
    """`inputs.npz`, `outputs.npz`, and each array as raw bytes; gives the raw files by name of the tensor."""
    folder.mkdir()
    files: dict[str, str] = {}
    for part, arrays in (("inputs", feed), ("outputs", results)):
        save_npz(folder / f"{part}.npz", arrays)
        for number, (name, values) in enumerate(arrays.items()):
            file = f"{part[:-1]}-{number}-{re.sub(r'[^A-Za-z0-9_.-]', '_', name)[:60]}.bin"
            (folder / file).write_bytes(np.ascontiguousarray(values).tobytes())
            files[name] = f"{GOLDEN}/{file}"
    return files


def save_npz(path: Path, arrays: Arrays) -> None:
    """An .npz whose bytes depend on the arrays alone: `np.savez` writes the time of day."""
    import io
    import zipfile

    with zipfile.ZipFile(path, "w") as archive:
        for name, values in arrays.items():
            stream = io.BytesIO()
            np.lib.format.write_array(stream, np.ascontiguousarray(values), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0)), stream.getvalue())


# ---- scripts
def write_script(path: Path, lines: str) -> None:
    """An executable file."""
    path.write_text(lines, encoding="utf-8")
    path.chmod(0o755)


def build_script(model: ir.Model, bounds: Mapping[str, Bounds], raw: Mapping[str, str]) -> str:
    """trtexec builds the engine; with `check` it runs the golden inputs, too."""
    shapes = [
        f"--{what}Shapes={quoted(','.join(f'{name}:{by_x(b[i])}' for name, b in bounds.items()))}"
        for i, what in enumerate(("min", "opt", "max"))
    ]
    loads = ",".join(f"'{t.name}':{raw[t.name]}" for t in model.inputs if t.name in raw)
    arguments = [
        "--onnx=model.onnx", "--saveEngine=model.plan", *(shapes if bounds else []), "--timingCacheFile=model.cache",
        "--profilingVerbosity=detailed", "--exportLayerInfo=layers.json", "--skipInference",
    ]  # fmt: skip
    joined = " \\\n  ".join(arguments)
    return f"""#!/bin/sh
# Builds model.plan on this machine, for its GPU and its TensorRT; `./trt_build.sh check` also runs the golden inputs.
set -eu
cd "$(dirname "$0")"
TRTEXEC=${{TRTEXEC:-trtexec}}
# TensorRT 10 wants to be told that types are as written; TensorRT 11 knows nothing else. No precision flags, ever.
strong=
if "$TRTEXEC" --help 2>&1 | grep -q -- --stronglyTyped; then strong=--stronglyTyped; fi
"$TRTEXEC" $strong \\
  {joined}
if [ "${{1:-}}" = check ]; then
  "$TRTEXEC" --loadEngine=model.plan --loadInputs={quoted(loads)} --iterations=1 --exportOutput=outputs.json
fi
"""


def polygraphy_script(bounds: Mapping[str, Bounds]) -> str:
    """Polygraphy compares TensorRT with ONNX Runtime on the golden inputs."""
    flags = [
        f"--trt-{what}-shapes " + " ".join(quoted(f"{name}:[{','.join(map(str, b[i]))}]") for name, b in bounds.items())
        for i, what in enumerate(("min", "opt", "max"))
    ]
    shapes = "".join(f" \\\n  {flag}" for flag in flags) if bounds else ""
    return f"""#!/bin/sh
# Compares the engine with ONNX Runtime on the golden inputs; needs polygraphy and a GPU.
set -eu
cd "$(dirname "$0")"
polygraphy run model.onnx --trt --onnxrt --strongly-typed{shapes} \\
  --data-loader-script golden.py --atol 1e-2 --rtol 1e-2
"""


def by_x(shape: Shape) -> str:
    """As trtexec has shapes."""
    return "x".join(map(str, shape))


def quoted(word: str) -> str:
    """One word of the shell."""
    return shlex.quote(word)


LOADER = '''"""Golden inputs for `polygraphy run --data-loader-script golden.py`."""

from pathlib import Path

import numpy as np


def load_data():
    with np.load(Path(__file__).parent / "golden" / "inputs.npz") as inputs:
        yield dict(inputs)
'''
