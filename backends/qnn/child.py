"""The process that touches Qualcomm's libraries: compiles and runs what it is told to, one request after the other.

A compile may crash, hang or take memory that it does not give back, and an execution provider is registered once for a
process, so none of this happens in the process of the compiler. This file is run as a script and imports nothing of
the compiler: it starts in a third of a second.

    python -P child.py FOLDER

FOLDER/requests.json holds a list of requests; the answer to request i is FOLDER/i.json, written when it is done:

    {"task": "compile", "model": file, "options": {...}, "entries": {...}, "outputs": folder or null}
        -> {"ok": true, "seconds": s, "assigned": [[provider, operator, node], ...], "metadata": {...}}
           {"ok": false, "error": text}
    {"task": "run", "model": file, "options": {...}, "entries": {...}, "feeds": folder of .npz, "outputs": folder}
        -> as above, with "runs": seconds of each run; outputs/NAME.npz holds the outputs of feeds/NAME.npz
    {"task": "version"} -> {"ok": true, "package": v, "qnn": v, "onnxruntime": v}

What the provider says on standard error belongs to whoever started the process.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

PROVIDER = "QNNExecutionProvider"
QUIET, WARNINGS = 3, 2


def session(request: dict[str, Any]) -> Any:
    """A session on the HTP backend alone, or with the CPU behind it, as the entries say.

    The graph in the binary is named after the path of the model, so this is a bare name, whatever the folder.
    """
    import onnxruntime as ort
    import onnxruntime_qnn as qnn

    options = ort.SessionOptions()
    options.log_severity_level = int(request.get("severity", QUIET))
    for key, value in request.get("entries", {}).items():
        options.add_session_config_entry(key, value)
    devices = [device for device in ort.get_ep_devices() if device.ep_name == PROVIDER]
    options.add_provider_for_devices(devices, {"backend_path": qnn.get_qnn_htp_path(), **request.get("options", {})})
    model = Path(request["model"]).resolve()
    os.chdir(model.parent)
    return ort.InferenceSession(model.name, options)


def assigned(made: Any) -> list[list[str]]:
    """Provider, operator and name of each node, as far as the session recorded it."""
    return [
        [graph.ep_name, node.op_type, node.name]
        for graph in made.get_provider_graph_assignment_info()
        for node in graph.get_nodes()
    ]


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Does what one request asks for."""
    import numpy as np

    if request["task"] == "version":
        import onnxruntime as ort
        import onnxruntime_qnn as qnn

        sdk = getattr(qnn.build_and_package_info, "qnn_version", "")
        return {"onnxruntime": ort.__version__, "onnxruntime-qnn": qnn.__version__, "qnn": sdk}
    start = time.perf_counter()
    made = session(request)
    found: dict[str, Any] = {"seconds": time.perf_counter() - start, "assigned": assigned(made)}
    found["metadata"] = dict(made.get_modelmeta().custom_metadata_map)
    if request["task"] == "run":
        names, found["runs"] = [output.name for output in made.get_outputs()], []
        for file in sorted(Path(request["feeds"]).glob("*.npz")):
            with np.load(file) as archive:
                feed = dict(archive)
            start = time.perf_counter()
            values = made.run(names, feed)
            found["runs"].append(time.perf_counter() - start)
            np.savez(Path(request["outputs"]) / file.name, **dict(zip(names, values, strict=True)))
    return found


def main(folder: Path) -> None:
    """Answers the requests of a folder in order; those that have an answer are done."""
    import onnxruntime as ort
    import onnxruntime_qnn as qnn

    ort.register_execution_provider_library(PROVIDER, qnn.get_library_path())
    for number, request in enumerate(json.loads((folder / "requests.json").read_text(encoding="utf-8"))):
        file = folder / f"{number}.json"
        if file.exists():
            continue
        print(f"request {number}", file=sys.stderr, flush=True)
        try:
            found = {"ok": True, **answer(request)}
        except Exception as error:  # each status of ONNX Runtime is a class of its own under Exception
            found = {"ok": False, "error": str(error)}
        part = file.with_suffix(".part")
        part.write_text(json.dumps(found), encoding="utf-8")
        part.rename(file)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
