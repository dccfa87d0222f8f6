"""Models beside each other on the same inputs: layer by layer (`compare`), and against the clock (`bench`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompiler.analysis.compare import Comparison, compare
from qcompiler.analysis.inputs import inputs_of
from qcompiler.analysis.latency import Speedup, Timing, measure, speedup
from qcompiler.analysis.run import Runner
from qcompiler.analysis.session import config_at
from qcompiler.data import InputInfo, open_source
from qcompiler.errors import UsageError
from qcompiler.frontend import read
from qcompiler.passes.prepare import parse_shape
from qcompiler.report.columns import Line, milliseconds, plural, shortened, table, wrapped

Progress = Callable[[str, int, "int | None"], None]
Feed = dict[str, npt.NDArray[Any]]

FEEDS = 4
MODELS = ("model.onnx", "model.qdq.onnx")
"""The model of an output folder that ONNX Runtime runs: what ships, or what it was compiled from."""


def model_file(path: Path) -> Path:
    """An ONNX file, or the one in an output folder.

    Raises:
        UsageError: a folder without model.onnx.
    """
    if not path.is_dir():
        return path
    for name in MODELS:
        if (path / name).is_file():
            return path / name
    raise UsageError("holds no model.onnx", where=str(path), hint="give a folder that qcompile wrote, or a file")


# ---- compare
def compared(a: Path, b: Path, data: str, samples: int, progress: Progress) -> Comparison:
    """Every tensor of both models, under the session options of each, on one thread; errors as `compare`.

    Where B is a Core ML package, or a folder with one, what was saved is evaluated.
    """
    package = package_in(b)
    if package is not None:
        return beside_package(a, package, data, samples, progress)
    reference, other = read(model_file(a)), read(model_file(b))
    source = open_source(data, inputs_of(reference), limit=samples)
    return compare(
        reference, other, source, config=config_at(a, reference, 1), other_config=config_at(b, other, 1),
        progress=lambda done, total: progress("compare", done, total),
    )  # fmt: skip


def package_in(path: Path) -> Path | None:
    """A Core ML package, or the one in an output folder."""
    if path.suffix == ".mlpackage":
        return path
    return next(iter(sorted(path.glob("*.mlpackage"))), None) if path.is_dir() else None


def beside_package(a: Path, package: Path, data: str, samples: int, progress: Progress) -> Comparison:
    """Every float value of A that a Core ML package has, too, under its name in ONNX.

    Raises:
        MissingExtraError: coremltools is not installed.
        ModelError, DataError: a model cannot be loaded or run.
    """
    from qcompiler.backends.coreml.evaluate import Package
    from qcompiler.backends.coreml.verify import NAMES, read_names
    from qcompiler.backends.coreml.verify import compared as beside

    reference, names = read(model_file(a)), read_names(package.parent / NAMES)
    source = open_source(data, inputs_of(reference), limit=samples)
    return beside(
        reference, Package.load(package), names, source, samples=samples,
        progress=lambda done, total: progress("compare", done, total),
    )  # fmt: skip


def emulated(a: Path, b: Path, target: str, data: str, samples: int, progress: Progress) -> Comparison:
    """Every stored value of B in the emulator of a target against the same value of A in ONNX Runtime.

    Raises:
        UsageError: the target has no emulator here, or the models have different inputs.
        MissingExtraError: its libraries are not installed.
        ModelError, DataError: a model cannot be loaded, compiled or run.
    """
    from qcompiler import backends
    from qcompiler.backends.base import Emulator

    backend = backends.get(target)
    if not isinstance(backend, Emulator):
        raise UsageError(f"there is no emulator of {target!r}", where="--target", hint="qnn has one")
    reference, other = read(model_file(a)), read(model_file(b))
    return backend.layers(reference, other, open_source(data, inputs_of(other), limit=samples), progress)


def comparison_facts(found: Comparison, top: int) -> dict[str, Any]:
    """The worst tensors as plain values; `sqnr_db` is null where both are equal (`equal`) or one is not finite."""
    return {
        "samples": found.samples,
        "compared": len(found.tensors),
        "tensors": [
            {
                "tensor": line.tensor,
                "other": line.other,
                "node": line.node,
                "op": line.op,
                "sqnr_db": line.sqnr_db,
                "equal": line.sqnr_db == float("inf"),
                "cosine": line.cosine,
                "worst": line.worst,
            }
            for line in found.worst()[:top]
        ],
        "skipped": dict(found.skipped),
    }


def comparison_lines(found: Comparison, top: int) -> Iterator[Line]:
    """The worst tensors, for a terminal."""
    worst = found.worst()
    yield Line(f"{plural(len(worst), 'tensor')} compared on {plural(found.samples, 'sample')}, worst first", "title")
    rows = [["SQNR dB", "cosine", "largest", "tensor", "operator"]]
    for line in worst[:top]:
        ratio = "equal" if line.sqnr_db == float("inf") else f"{line.sqnr_db:.1f}"
        numbers = [ratio, f"{line.cosine:.5f}", f"{line.worst:.3g}"]
        rows.append([*numbers, shortened(line.tensor, 32), shortened(line.op or "input", 18)])
    if worst:
        yield from map(Line, table(rows, right=(0, 1, 2)))
    if len(worst) > top:
        yield Line(f"and {len(worst) - top} better ones: --top {len(worst)}", "faint")
    reasons: dict[str, list[str]] = {}
    for name, reason in found.skipped.items():
        reasons.setdefault(reason, []).append(name)
    for reason, names in sorted(reasons.items(), key=lambda item: -len(item[1])):
        text = f"{plural(len(names), 'tensor')} (e.g. {shortened(names[0], 40)}): {reason}"
        yield from (Line(line, "faint") for line in wrapped("not compared: ", text))


# ---- bench
@dataclass(frozen=True)
class Timed:
    """Times of models by the path that was given, the first being what others are compared with."""

    timings: Mapping[str, Timing]
    threads: int
    feeds: str
    disabled: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def speedups(self) -> dict[str, Speedup]:
        """Of every model over the first."""
        first = next(iter(self.timings.values()))
        return {name: speedup(first, timing) for name, timing in self.timings.items()}


def timed(
    paths: Sequence[Path], data: str | None, shapes: Mapping[str, str], seconds: float, threads: int, progress: Progress
) -> Timed:
    """Times models in alternating blocks, each with the session options that it was made for.

    Raises:
        UsageError: a model twice, different inputs, or an open dimension without data.
        ModelError, DataError: a model cannot be loaded or run.
    """
    if len({str(path) for path in paths}) < len(paths):
        raise UsageError("a model is given twice", where="MODELS")
    models = {str(path): read(model_file(path)) for path in paths}
    configs = {str(path): config_at(path, models[str(path)], threads) for path in paths}
    first, *others = models.items()
    inputs = inputs_of(first[1])
    for name, model in others:
        if [t.name for t in model.inputs] != [info.name for info in inputs]:
            raise UsageError(f"takes other inputs than {first[0]}", where=name)
    if data is not None and shapes:
        raise UsageError("is for timing without --data", where="--shape")
    if data is None:
        feeds, words = [made_up(inputs, shapes)], "made up: zeros and ones, which say nothing but time"
    else:
        feeds = [sample.feed for sample in islice(open_source(data, inputs), FEEDS)]
        words = plural(len(feeds), "sample")
    progress("load", 0, None)
    runners = {name: Runner(model, configs[name]) for name, model in models.items()}
    progress("measure", 0, None)
    options = {name: config.disabled_optimizers for name, config in configs.items()}
    return Timed(measure(runners, feeds, seconds=seconds), threads, words, options)


def made_up(inputs: Sequence[InputInfo], shapes: Mapping[str, str]) -> Feed:
    """One feed: ones for floats (zeros may divide by zero), zeros for integers (a valid index), empty text.

    Raises:
        UsageError: a dimension that is neither fixed nor given, or a name that no input knows.
    """
    given = dict(parse_shape(f"{name}={value}") for name, value in shapes.items())
    known = {info.name for info in inputs} | {d for info in inputs for d in info.shape or () if isinstance(d, str)}
    for name in given.keys() - known:
        raise UsageError(f"{name!r} is neither an input nor a dynamic dimension", where="--shape")
    feed: Feed = {}
    for info in inputs:
        dims = [d if isinstance(d, int) else given.get(d or "", (0,))[0] for d in info.shape or ()]
        if info.name in given:
            whole = given[info.name]
            if info.shape is not None and len(whole) != len(dims):
                raise UsageError(f"{info.name!r} has {plural(len(dims), 'dimension')}", where="--shape")
            dims = [new or old for new, old in zip(whole, dims or whole, strict=True)]
        if info.shape is None and info.name not in given:
            raise UsageError(
                f"the rank of input {info.name!r} is unknown", where="--shape", hint=f"{info.name}=1x3x8x8"
            )
        if not all(dims):
            open_ = [str(d or "?") for d in info.shape or () if not isinstance(d, int)]
            hint = f"--shape {open_[0]}=1, --shape {info.name}=..., or --data"
            raise UsageError(f"input {info.name!r} has open dimensions: {', '.join(open_)}", where="--shape", hint=hint)
        value: Any = "" if info.dtype == object else 1 if info.dtype.kind in "fV" else 0
        feed[info.name] = np.full(dims, value, info.dtype)
    return feed


def timing_facts(found: Timed) -> dict[str, Any]:
    """The times as plain values, milliseconds."""
    return {
        "threads": found.threads,
        "feeds": found.feeds,
        "models": [
            {
                "model": name,
                "median_ms": timing.median_ms,
                "min_ms": timing.min_ms,
                "spread": timing.spread,
                "speedup": found.speedups[name].ratio,
                "noise": found.speedups[name].noise,
                "disabled_optimizers": list(found.disabled.get(name, ())),
            }
            for name, timing in found.timings.items()
        ],
    }


def timing_lines(found: Timed) -> Iterator[Line]:
    """The times, for a terminal."""
    rows = [["median", "min", "speed", "model"]]
    for i, (name, timing) in enumerate(found.timings.items()):
        gain = found.speedups[name]
        ratio = "1" if i == 0 else f"{gain.ratio:.2f}x +- {gain.noise:.2f}"
        rows.append([milliseconds(timing.median_ms), milliseconds(timing.min_ms), ratio, shortened(name, 38)])
    yield from map(Line, table(rows, right=(0, 1, 2)))
    for name, off in found.disabled.items():
        if off:
            words = f"{shortened(name, 38)}: with its session options, without {', '.join(off)}"
            yield from (Line(line, "faint") for line in wrapped("", words))
    text = f"{plural(found.threads, 'thread')}, ONNX Runtime, CPU; inputs: {found.feeds}"
    yield from (Line(line, "faint") for line in wrapped("", text))
