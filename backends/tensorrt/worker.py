"""One build by TensorRT-RTX, in a process of its own: `python worker.py REQUEST RESULT`, both JSON files.

The builder leaks state after a failure (fact sheet, section 6, item 1), takes the first logger of a process only, and
may crash; so a process builds once. It imports nothing but the builder and the standard library, which keeps it small
and lets it be started by path. No GPU is needed: the capability is named.

    request     onnx: path; capability: SM89 ...; shapes: {input: [min, opt, max]}; engine: path, or "" for none
    result      ok; phase, error, node, op (of a failure); layers: the builder's listing; warnings; engine_bytes,
                engine_sha256; seconds; peak_rss_mib
"""

from __future__ import annotations

import hashlib
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

LISTING = "Layers:"


def build(request: dict[str, Any]) -> dict[str, Any]:
    """The result of one request."""
    import tensorrt_rtx as trt

    lines: list[tuple[int, str]] = []

    class Log(trt.ILogger):  # type: ignore[misc]
        """Keeps everything: the listing comes as a verbose message."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, text: str) -> None:
            """Called by the builder."""
            lines.append((int(severity), text))

    def said(level: Any) -> list[str]:
        return [text for severity, text in lines if severity <= int(level)]

    log = Log()
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(request["onnx"]):
        error = parser.get_error(0)
        return {
            "ok": False, "phase": "parse", "error": error.desc(), "node": error.node_name(), "op": error.node_operator()
        }  # fmt: skip
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(getattr(trt.ComputeCapability, request["capability"]), 0)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if request["shapes"]:
        profile = builder.create_optimization_profile()
        for name, bounds in request["shapes"].items():
            profile.set_shape(name, *bounds)
        config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    warnings = [text for severity, text in lines if severity == int(trt.ILogger.Severity.WARNING)]
    if plan is None:
        errors = said(trt.ILogger.Severity.ERROR) or ["the builder gave no reason"]
        return {"ok": False, "phase": "build", "error": errors[0], "node": "", "op": "", "warnings": warnings}
    data = memoryview(plan)
    if request["engine"]:
        Path(request["engine"]).write_bytes(data)
    return {
        "ok": True,
        "layers": next((text for _, text in reversed(lines) if text.startswith(LISTING)), ""),
        "warnings": warnings,
        "engine_bytes": data.nbytes,
        "engine_sha256": hashlib.sha256(data).hexdigest(),
    }


def main() -> None:
    """Reads the request, builds, writes the result."""
    request = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    start = time.perf_counter()
    result = build(request)
    result["seconds"] = round(time.perf_counter() - start, 3)
    result["peak_rss_mib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
    Path(sys.argv[2]).write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main()
