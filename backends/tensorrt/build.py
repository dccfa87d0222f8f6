"""Has the real builder compile a model, in a child process; never raises for what the builder says."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path
from typing import Any

from qcompiler.backends.tensorrt import worker

PACKAGE = "tensorrt-rtx"
INSTALL = "pip install 'qcompiler[tensorrt]'"
TIMEOUT_S = 3600

Bounds = Mapping[str, Sequence[Sequence[int]]]


@dataclass(frozen=True)
class Built:
    """What the builder said.

    Attributes:
        ok: it made an engine.
        error, node, op, phase: of a failure: its words, where, and whether parsing or building failed.
        layers: its listing of kernels.
        warnings: in its words.
        engine_bytes, engine_sha256: of the engine.
        seconds, peak_rss_mib: of the process.
    """

    ok: bool
    error: str = ""
    node: str = ""
    op: str = ""
    phase: str = ""
    layers: str = ""
    warnings: tuple[str, ...] = ()
    engine_bytes: int = 0
    engine_sha256: str = ""
    seconds: float = 0.0
    peak_rss_mib: float = 0.0


def version() -> str:
    """Version of the builder; empty where it is not installed."""
    if util.find_spec("tensorrt_rtx") is None:
        return ""
    return metadata.version("tensorrt_rtx")


def build(onnx: Path, capability: str, shapes: Bounds, engine: Path | None = None) -> Built:
    """One build.

    Args:
        onnx: the model file.
        capability: SM75, SM80, SM86, SM89 or SM120.
        shapes: smallest, usual and largest shape of each dynamic input.
        engine: where to leave the engine; None throws it away.
    """
    with tempfile.TemporaryDirectory(prefix="qcompiler-trt-") as name:
        request, result = Path(name) / "request.json", Path(name) / "result.json"
        wishes: dict[str, Any] = {
            "onnx": str(onnx.resolve()),
            "capability": capability,
            "shapes": {key: [list(shape) for shape in bounds] for key, bounds in shapes.items()},
            "engine": "" if engine is None else str(engine.resolve()),
        }
        request.write_text(json.dumps(wishes), encoding="utf-8")
        command = [sys.executable, "-I", worker.__file__, str(request), str(result)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            return Built(False, f"the builder took more than {TIMEOUT_S} s", phase="build")
        if done.returncode or not result.is_file():
            words = [line.strip() for line in done.stderr.splitlines() if line.strip()]
            return Built(False, words[-1] if words else f"the builder died ({done.returncode})", phase="crash")
        found = json.loads(result.read_text(encoding="utf-8"))
    return Built(**{**found, "warnings": tuple(found.get("warnings", ()))})
