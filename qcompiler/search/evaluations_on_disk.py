"""Evaluates models larger than memory: each is walked through piece by piece, and what it gives is kept in files.

    float model, all samples -> its outputs      candidate, all samples -> its outputs -> a record for each sample

There are as many bytes on disk as two models' outputs of all samples take. Records are those of `analysis.sweep`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy.typing as npt

from qcompiler import ir
from qcompiler.analysis import Metric, Record, SessionConfig, sweep
from qcompiler.analysis.ask import check_metric
from qcompiler.analysis.language import SAMPLES, divergence
from qcompiler.analysis.measures import Measure
from qcompiler.analysis.measures_of_text import Divergence, Perplexity, Tokens
from qcompiler.analysis.session import config_of
from qcompiler.analysis.walk import Walk
from qcompiler.data import Source
from qcompiler.search.shelf import Shelf

Tell = Callable[[int, "int | None"], None]
NOT_PREPACKED = ("session.disable_prepacking", "1")
Spoken = tuple[float, float, int, int] | tuple[()]


@dataclass(frozen=True, eq=False)
class Streamed:
    """See the module.

    Attributes:
        shelf: gives folders for files.
        original: the float model.
        source: samples.
        metric: as for `Evaluations`.
        config: session settings of the models; those of the float model are in its metadata.
        spoken: by model, for those judged by tokens: KL from the float model, agreement with it, positions, samples;
            empty where an output holds no scores.
    """

    shelf: Shelf
    original: ir.Model
    source: Source
    metric: str | Metric | None
    config: SessionConfig
    spoken: dict[str, Spoken] = field(default_factory=dict)

    @staticmethod
    def on(
        shelf: Shelf | None,
        original: ir.Model,
        source: Source | None,
        metric: str | Metric | None,
        config: SessionConfig,
    ) -> Streamed | None:
        """What evaluates on a shelf; None where there is none, or no samples.

        Raises:
            UsageError: the metric names nothing that can be called.
        """
        if shelf is None or source is None:
            return None
        check_metric(metric)
        return Streamed(shelf, original, source, metric, config)

    @property
    def count(self) -> int | None:
        """Number of samples, where it is known."""
        return self.source.count

    def rounds(self, models: Mapping[str, ir.Model], tell: Tell) -> Iterator[tuple[Measure, dict[str, list[Record]]]]:
        """What was asked, and the records of each model, as for `Evaluations.rounds`: all samples in one round.

        Raises:
            DataError: as for `analysis.sweep`.
        """
        floats = config_of(self.original, self.config.threads)
        floats = replace(floats, entries=(*floats.entries, NOT_PREPACKED))
        found: dict[str, list[Record]] = {}
        measure: Measure | None = None
        with self.shelf.work() as folder:
            reference = Outputs(self.original, self.source, folder / "float", floats)
            for number, (name, model) in enumerate(models.items()):
                tell(number, len(models))
                own = model is not self.original
                other = Outputs(model, self.source, folder / name, self.config) if own else reference
                found[name] = []
                known, played = measure, {"": other.play()}
                for asked, each in sweep(reference.play(), played, self.source, self.metric, known):
                    measure = asked
                    found[name].append(each[""])
                if isinstance(measure, Divergence | Perplexity | Tokens):
                    spoken = divergence(reference.play(), other.play(), measure.output, self.source)
                    self.spoken[name] = () if spoken is None else (*spoken, min(SAMPLES, len(found[name])))
                if own:
                    other.drop()
        if measure is not None:
            yield measure, found


class Outputs:
    """What a model gives for each sample, in files.

    Args:
        model, source: the model is walked through at once.
        folder: for the files; made here.
        config: session settings.
    """

    def __init__(self, model: ir.Model, source: Source, folder: Path, config: SessionConfig) -> None:
        folder.mkdir()
        self._names = [tensor.name for tensor in model.outputs]
        self._walk = Walk(model, source, dict.fromkeys(self._names), folder, config)
        self._walk.reach(self._names)

    def play(self) -> Played:
        """The model as something that runs, from the first sample on."""
        values = zip(*map(self._walk.values, self._names), strict=True)
        return Played(dict(zip(self._names, each, strict=True)) for each in values)

    def drop(self) -> None:
        """Removes the files."""
        for name in self._names:
            self._walk.forget(name)


@dataclass(frozen=True)
class Played:
    """Gives outputs, sample after sample."""

    outputs: Iterator[dict[str, npt.NDArray[Any]]]

    def run(self, feed: Mapping[str, npt.NDArray[Any]], *, sample: str = "") -> dict[str, npt.NDArray[Any]]:
        """Those of the next sample, whatever is fed."""
        return next(self.outputs)
