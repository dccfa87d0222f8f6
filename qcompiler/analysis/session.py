"""The session that a model was made for: in its metadata, in `session.json` beside it, and as an onnxruntime session.

A model is correct under any session. Some options make it faster, so they travel with it, in two forms with the same
keys (`level`, `threads`, `disabled_optimizers`, `entries`, `schema`):

    session.json              in the output folder; also ONNX Runtime's version, the CPU and what the optimised graph
                              held when the model was checked
    metadata_props            key "qcompiler.session" of the model itself

`session` makes a session from either. Where the folder holds `model.optimized.onnx` (ONNX Runtime's optimised graph,
a cache that loads faster), it is used if version, CPU and size of `model.onnx` are those it was written for; its
graph holds the kernels of that version and the memory layouts of that CPU.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

from qcompiler import ir
from qcompiler.analysis.cpu import cpu_flags
from qcompiler.analysis.run import Level, Runner, SessionConfig, reason, session_options
from qcompiler.errors import DataError, ModelError

if TYPE_CHECKING:
    import onnxruntime as ort

SCHEMA = 1
KEY = "qcompiler.session"
FILE, MODEL, OPTIMIZED = "session.json", "model.onnx", "model.optimized.onnx"
DISABLED = "optimization.disable_specified_optimizers"


# ---- one form for file and metadata
def options_json(config: SessionConfig) -> dict[str, Any]:
    """The options as plain values."""
    return {
        "schema": SCHEMA,
        "level": config.level,
        "threads": config.threads,
        "disabled_optimizers": list(config.disabled_optimizers),
        "entries": dict(config.entries),
    }


def config_from(text: str, where: str = "") -> SessionConfig:
    """Inverse of `options_json`; keys that this version does not know are left out.

    Raises:
        DataError: not options of this schema.
    """
    try:
        data = json.loads(text)
        level, threads, off = data["level"], data["threads"], data["disabled_optimizers"]
        known = data["schema"] == SCHEMA and level in get_args(Level) and isinstance(threads, int) and threads > 0
        if not known or not isinstance(off, list):
            raise DataError("holds session options that this version does not know", where=where)
        entries = tuple((str(key), str(value)) for key, value in data["entries"].items())
        return SessionConfig(cast("Level", level), threads, tuple(map(str, off)), entries)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise DataError(f"holds no session options: {error!r}", where=where) from error


# ---- metadata
def mark(model: ir.Model, config: SessionConfig) -> None:
    """Writes the options into the metadata of a model, in place of those that are there; default ones leave none."""
    kept = [entry for entry in model.header.metadata_props if entry.key != KEY]
    del model.header.metadata_props[:]
    model.header.metadata_props.extend(kept)
    if replace(config, threads=1) != SessionConfig():
        entry = model.header.metadata_props.add()
        entry.key, entry.value = KEY, json.dumps(options_json(config), sort_keys=True)


def config_of(model: ir.Model, threads: int | None = None) -> SessionConfig:
    """The options in the metadata of a model, the default ones where there are none; `threads` replaces its threads.

    Raises:
        DataError: the metadata is not what `mark` writes.
    """
    text = next((entry.value for entry in model.header.metadata_props if entry.key == KEY), None)
    config = SessionConfig() if text is None else config_from(text, f"metadata {KEY}")
    return config if threads is None else replace(config, threads=threads)


def config_at(path: Path, model: ir.Model, threads: int | None = None) -> SessionConfig:
    """The options of a folder's `session.json`, else those in the metadata of `model`, read from `path`.

    Raises:
        DataError: one of them is damaged.
    """
    if not path.is_dir() or not (path / FILE).is_file():
        return config_of(model, threads)
    config = _read(path / FILE)[0]
    return config if threads is None else replace(config, threads=threads)


def _read(file: Path) -> tuple[SessionConfig, dict[str, Any]]:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot be read: {error}", where=str(file)) from error
    return config_from(text, str(file)), json.loads(text)


# ---- the file
@dataclass(frozen=True)
class Checked:
    """What the options were checked with.

    Attributes:
        version: of ONNX Runtime.
        cpu: architecture and instruction sets.
        ops: how often each operator occurs in the optimised graph: a change says that the runtime does otherwise.
    """

    version: str
    ops: Mapping[str, int] = field(default_factory=dict)
    cpu: tuple[str, ...] = field(default_factory=cpu_flags)


def write_session(folder: Path, config: SessionConfig, checked: Checked, *, optimized: bool = False) -> None:
    """Writes `session.json` for the `model.onnx` of a folder, and with `optimized` the cache beside it.

    Raises:
        ModelError: ONNX Runtime cannot load the model, or cannot write it.
    """
    facts = {**options_json(config), "checked": {"onnxruntime": checked.version, "cpu": list(checked.cpu)}}
    facts["checked"]["ops"] = dict(sorted(checked.ops.items()))
    if optimized:
        Runner(folder / MODEL, replace(config, save_optimized=folder / OPTIMIZED))
        tie = {"onnxruntime": checked.version, "cpu": list(checked.cpu)}
        facts["optimized"] = {"file": OPTIMIZED, "model_bytes": (folder / MODEL).stat().st_size, **tie}
    (folder / FILE).write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def snippet(config: SessionConfig, file: str = MODEL) -> tuple[str, ...]:
    """The lines that make the same session with onnxruntime alone."""
    level = {"extended": "ORT_ENABLE_EXTENDED", "basic": "ORT_ENABLE_BASIC", "off": "ORT_DISABLE_ALL"}.get(config.level)
    lines = ["import onnxruntime as ort", "options = ort.SessionOptions()"]
    if level:
        lines.append(f"options.graph_optimization_level = ort.GraphOptimizationLevel.{level}")
    lines.append(f"options.intra_op_num_threads = {config.threads}")
    entries = dict(config.entries)
    if config.disabled_optimizers:
        entries[DISABLED] = ";".join(config.disabled_optimizers)
    for key, value in entries.items():
        lines += [f'key = "{key}"', f'options.add_session_config_entry(key, "{value}")']
    return (*lines, f'session = ort.InferenceSession("{file}", options)')


# ---- the loader
def session(path: str | Path, *, threads: int | None = None, optimized: bool = True) -> ort.InferenceSession:
    """An ONNX Runtime session on the CPU with the options that a model was made for.

    Args:
        path: a folder that qcompile wrote, or a model file with options in its metadata; any other ONNX file gets
            the default options.
        threads: threads inside an operator, in place of those that the model was measured with.
        optimized: whether the cache may be used.

    Raises:
        DataError: there is no model, or its options are damaged.
        ModelError: the file is no model, or ONNX Runtime cannot load it.
    """
    import onnxruntime as ort

    path = Path(path)
    file = path / MODEL if path.is_dir() else path
    if not file.is_file():
        raise DataError("there is no model", where=str(file), hint="give a folder that qcompile wrote, or a model")
    if path.is_dir() and (path / FILE).is_file():
        config, facts = _read(path / FILE)
        if optimized and _fits(facts.get("optimized"), path, str(ort.__version__)):
            file, config = path / OPTIMIZED, replace(config, level="off", disabled_optimizers=())
    else:
        config = config_of(ir.load(file))
    config = config if threads is None else replace(config, threads=threads)
    options = session_options(config)
    options.log_severity_level = 3
    try:
        return ort.InferenceSession(
            str(file), options, providers=["CPUExecutionProvider"],
            disabled_optimizers=list(config.disabled_optimizers) or None,
        )  # fmt: skip
    except Exception as error:  # each status of ONNX Runtime is a class of its own under Exception
        raise ModelError(f"ONNX Runtime cannot load the model: {reason(error)}", where=str(file)) from error


def _fits(cache: object, folder: Path, version: str) -> bool:
    """Whether the cache of a folder was written for this runtime, this CPU, and the model beside it."""
    return (
        isinstance(cache, Mapping)
        and (folder / OPTIMIZED).is_file()
        and cache.get("onnxruntime") == version
        and cache.get("cpu") == list(cpu_flags())
        and cache.get("model_bytes") == (folder / MODEL).stat().st_size
    )
