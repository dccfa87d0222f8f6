"""The record of a compile: what report.json holds, schema 1.

Everything here is a plain value, so that the command line, the API and tools that read report.json see the same thing.
Keys do not change meaning within a schema; new ones may be added. Times and latencies are measured, so they differ
from run to run; everything else is the same for the same inputs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from typing import Any, TypeVar

from qcompiler.errors import DataError

SCHEMA = 1
Number = float  # `Accuracy` has a field of the name float, as report.json has


@dataclass(frozen=True)
class PassLine:
    """One pass: how often it changed something, and what it refused (each with `rule`, `node`, `reason`)."""

    name: str
    changes: int
    seconds: float
    refusals: tuple[Mapping[str, str], ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class NodeLine:
    """How one node is computed; inputs and outputs are names of tensors, empty where an optional one is left out."""

    name: str
    op: str
    precision: str
    rule: str
    reason: str
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()


@dataclass(frozen=True)
class TensorLine:
    """How one value is stored; scale and zero_point are lists for per-axis encodings."""

    name: str
    site: str
    dtype: str
    method: str
    scale: float | list[float]
    zero_point: int | list[int]
    sqnr_db: float | None
    why: str


@dataclass(frozen=True)
class Accuracy:
    """The metric on the same samples before and after.

    Attributes:
        verdict: `holds`, `broken` or `undecided` by `max_drop`; `informative` where that is none; `not measured`
            without data.
        output_sqnr_db: signal-to-noise ratio of each output against the float model; None stands for exact equality.
        unit: of the metric and its drop: `share` (fractions of 1), `dB`, `number`, or `noise`, a metric in decibels
            whose drop is the noise's share of the signal; empty in older reports.
        bound: how `ci_low` and `ci_high` were found; each is a bound at `confidence` of its own.
        limit, stated, max_drop: the limit in words, whether someone asked for it, and what it is in the drop's unit.
        samples_needed: how many would settle an undecided verdict, if they go on like those seen.
        stopped_early: the verdict was clear before all samples were seen.
    """

    metric: str
    float: Number | None
    quantized: Number | None
    drop: Number | None
    ci_low: Number | None
    ci_high: Number | None
    samples: int
    verdict: str
    output_sqnr_db: Mapping[str, Number | None] = field(default_factory=dict)
    unit: str = ""
    bound: str = ""
    confidence: Number | None = None
    limit: str = "none"
    stated: bool = False
    max_drop: Number | None = None
    samples_needed: int | None = None
    stopped_early: bool = False


@dataclass(frozen=True)
class Latency:
    """Median milliseconds a run, measured in alternating blocks in one process; `noise` is the spread of speedup.

    `modelled`: the machine that measured is not of the target's kind, so these are not the target's times.
    `shapes`: `shape`, `float_ms`, `quantized_ms` and `speedup` of each shape that was asked for; the figures above are
    then their geometric means.
    """

    float_ms: float | None
    quantized_ms: float | None
    speedup: float | None
    noise: float | None
    threads: int
    modelled: bool = False
    shapes: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class CandidateLine:
    """One precision that was tried, and why it was or was not shipped.

    `front`: no other candidate is as accurate, as fast and as small, and better in one.
    """

    precision: str
    method: str
    metric: float | None
    drop: float | None
    worst_sqnr_db: float | None
    speedup: float | None
    bytes: int
    shipped: bool
    reason: str
    front: bool = False


@dataclass(frozen=True)
class Artifact:
    """A file of the output folder."""

    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Report:
    """report.json."""

    tool: Mapping[str, Any]
    model: Mapping[str, Any]
    target: Mapping[str, Any]
    calibration: Mapping[str, Any]
    passes: tuple[PassLine, ...]
    nodes: tuple[NodeLine, ...]
    tensors: tuple[TensorLine, ...]
    accuracy: Accuracy
    latency: Latency
    size: Mapping[str, int]
    backend: Mapping[str, Any]
    candidates: tuple[CandidateLine, ...]
    notes: tuple[str, ...]
    artifacts: tuple[Artifact, ...]
    schema: int = SCHEMA
    session: Mapping[str, Any] = field(default_factory=dict)
    search: Mapping[str, Any] = field(default_factory=dict)
    language: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """The text of report.json: sorted keys, finite numbers only."""
        return json.dumps(asdict(self), indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n"

    @staticmethod
    def from_json(text: str) -> Report:
        """Inverse of `to_json`; keys that this version does not know are left out.

        Raises:
            DataError: not a report of this schema.
        """
        try:
            data = json.loads(text)
            if data["schema"] != SCHEMA:
                raise DataError(f"report has schema {data['schema']}, this version reads {SCHEMA}")
            parts = {name: tuple(_line(line, entry) for entry in data[name]) for name, line in _LINES.items()}
            whole = {"accuracy": _line(Accuracy, data["accuracy"]), "latency": _line(Latency, data["latency"])}
            return _line(Report, {**data, **parts, **whole, "notes": tuple(data["notes"])})
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise DataError(f"is not a report of qcompile: {error!r}") from error


_LINES: Mapping[str, type[Any]] = {
    "passes": PassLine, "nodes": NodeLine, "tensors": TensorLine, "candidates": CandidateLine, "artifacts": Artifact,
}  # fmt: skip
_Line = TypeVar("_Line")


def _line(kind: type[_Line], entry: Mapping[str, Any]) -> _Line:
    """The dataclass `kind` from its JSON form; a key that must be there and is not is a KeyError."""
    given: dict[str, Any] = {}
    for part in fields(kind):  # type: ignore[arg-type]
        if part.name in entry or (part.default is MISSING and part.default_factory is MISSING):
            value = entry[part.name]
            tuples = isinstance(value, list) and str(part.type).startswith("tuple")
            given[part.name] = tuple(value) if tuples else value
    return kind(**given)
