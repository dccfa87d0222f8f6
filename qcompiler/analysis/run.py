"""Runs a model in ONNX Runtime on the CPU: the one place where sessions are made.

Every session has the same settings unless the caller says otherwise: one thread, no thread-dependent sums, silent
logger. What ONNX Runtime raises becomes one line: `ModelError` when the session is made, `DataError` naming the sample
(and the node, where ONNX Runtime names one) when it runs.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeGuard

import numpy as np
import numpy.typing as npt

from qcompiler import ir
from qcompiler.analysis.crashes import crashing
from qcompiler.analysis.payload import Payload
from qcompiler.analysis.unwritten import unwritten
from qcompiler.errors import DataError, ModelError

Array = npt.NDArray[Any]
Level = Literal["all", "extended", "basic", "off"]

UNWRITTEN = "Protobuf serialization failed"
"""What it says where the disk is full behind the graph that it writes."""
_SILENT = 4
_NOISE = (
    r"^\[ONNXRuntimeError\] : \d+ : \w+ : ",
    r"/\S+\.(?:cc|h|cpp|hpp):\d+ ",
    r"\bonnxruntime::[\w:~]+\([^)]*\)(?: const)? ",
    r"(?:Load model from \S+ failed:|Fatal error:|This is an invalid model\.) ?",
)
_RUNNING = re.compile(r"Non-zero status code returned while running (\w+) node\. Name:'([^']*)' Status Message: ")


@dataclass(frozen=True)
class SessionConfig:
    """How a session is made.

    Attributes:
        level: graph optimisation of ONNX Runtime. "all" is what a deployer runs; "off" computes node by node.
        threads: threads inside an operator. More than one may change the last bits of sums.
        disabled_optimizers: names of ONNX Runtime's graph transformers to leave out.
        entries: session configuration entries, (key, value).
        save_optimized: file to write the optimised graph to.
        profile: beginning of the file name that ONNX Runtime's profiler writes to (`Runner.end_profile`).
    """

    level: Level = "all"
    threads: int = 1
    disabled_optimizers: tuple[str, ...] = ()
    entries: tuple[tuple[str, str], ...] = ()
    save_optimized: Path | None = None
    profile: Path | None = None


class Runner:
    """A model that is ready to run.

    Args:
        model: a graph, a payload, or the path of a file (external data beside it is found).
        config: session settings.
        outputs: names of the outputs to compute; by default all that are written in full (`unwritten`).

    Attributes:
        inputs, outputs: names, in the model's order.

    Raises:
        ModelError: ONNX Runtime refuses the model; the message is its reason, in one line.
    """

    def __init__(
        self,
        model: ir.Model | Payload | Path,
        config: SessionConfig | None = None,
        *,
        outputs: Sequence[str] | None = None,
    ) -> None:
        import onnxruntime as ort

        self.config = config or SessionConfig()
        payload = Payload.of(model) if isinstance(model, ir.Model) else model
        options = session_options(self.config)
        off = (*self.config.disabled_optimizers, *(() if isinstance(payload, Path) else crashing(payload)))
        if isinstance(payload, Payload) and payload.weights:
            options.add_external_initializers(list(payload.weights), list(map(_value, payload.weights.values())))
        try:
            self._session = ort.InferenceSession(
                str(payload) if isinstance(payload, Path) else payload.content,
                options,
                providers=["CPUExecutionProvider"],
                disabled_optimizers=list(off) or None,
            )
        except Exception as error:  # each status of ONNX Runtime is a class of its own under Exception
            where, file = payload.name if isinstance(payload, Path) else "", self.config.save_optimized
            if file is not None and UNWRITTEN in str(error):
                why, hint = f"ONNX Runtime cannot write its graph: {reason(error)}", "is there space? see TMPDIR"
                raise ModelError(why, where=str(file.parent), hint=hint) from error
            raise ModelError(f"ONNX Runtime cannot load the model: {reason(error)}", where=where) from error
        self._content = payload if isinstance(payload, Path) else hashlib.sha256(payload.content).hexdigest()
        self._run_options = ort.RunOptions()
        self._run_options.log_severity_level = _SILENT
        self.inputs: tuple[str, ...] = tuple(value.name for value in self._session.get_inputs())
        partly = unwritten(payload) if isinstance(payload, Payload) else frozenset[str]()
        every = tuple(value.name for value in self._session.get_outputs() if value.name not in partly)
        self.outputs: tuple[str, ...] = every if outputs is None else tuple(outputs)

    def run(self, feed: Mapping[str, Array], *, sample: str = "") -> dict[str, Array]:
        """Computes the outputs of one feed.

        Args:
            feed: input name to array, of the shapes and types that the model takes.
            sample: name of the sample, for error messages.

        Returns:
            Output name to array; None for an optional output that is absent, lists for sequences.

        Raises:
            DataError: ONNX Runtime refuses the feed, or a node fails on it.
        """
        try:
            values = self._session.run(list(self.outputs), feed, self._run_options)
        except Exception as error:  # see above
            raise DataError(f"the model cannot run on this sample: {reason(error)}", where=sample) from error
        return dict(zip(self.outputs, values, strict=True))

    @property
    def digest(self) -> str:
        """What tells this session from others: sha256 of the model (weights handed over apart excluded), settings."""
        if isinstance(self._content, Path):
            with self._content.open("rb") as file:
                self._content = hashlib.file_digest(file, "sha256").hexdigest()
        settings = replace(self.config, save_optimized=None, profile=None)
        return f"{self._content} {settings} {self.outputs}"

    def end_profile(self) -> Path:
        """Ends the profile that was asked for, and gives its file: JSON, in the form of Chrome's trace events."""
        return Path(self._session.end_profiling())


def _value(weights: Array) -> Any:
    """A weight as ONNX Runtime takes it; the types of ml_dtypes go as integers of their width."""
    import onnxruntime as ort
    from onnx import helper

    code = helper.np_dtype_to_tensor_dtype(weights.dtype)
    return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(weights.view(f"u{weights.itemsize}"), code)


def is_float(value: object) -> TypeGuard[Array]:
    """Whether a value is a tensor of floating-point numbers, the small types of ml_dtypes included."""
    if not isinstance(value, np.ndarray):
        return False
    kind = value.dtype.kind
    return kind == "f" or (kind == "V" and str(value.dtype.name).startswith(("float", "bfloat")))


def session_options(config: SessionConfig) -> Any:
    """The `onnxruntime.SessionOptions` of a configuration; `disabled_optimizers` goes to the session itself."""
    import onnxruntime as ort

    levels = {
        "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
        "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
        "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
        "off": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    }
    options = ort.SessionOptions()
    options.graph_optimization_level = levels[config.level]
    options.intra_op_num_threads = config.threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.use_deterministic_compute = True
    options.log_severity_level = _SILENT
    for key, value in config.entries:
        options.add_session_config_entry(key, value)
    if config.save_optimized is not None:
        options.optimized_model_filepath = str(config.save_optimized)
    if config.profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(config.profile)
    return options


def reason(error: Exception) -> str:
    """What ONNX Runtime has to say, in one line, without its source paths; the failing node is named first."""
    text = str(error)
    for noise in _NOISE:
        text = re.sub(noise, "", text)
    if running := _RUNNING.search(text):
        node = f"{running[1]} node {running[2]!r}" if running[2] else f"{running[1]} node"
        text = f"{node}: {text[running.end() :]}"
    text = " ".join(text.split())
    return text if len(text) <= 300 else text[:297] + "..."
