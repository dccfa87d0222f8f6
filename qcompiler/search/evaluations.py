"""Evaluates many models on one source: in shards, by any crew, each result written down as it comes.

    shard x model  ->  one record for each sample   (journal: looked up first, put when it comes)
    all shards, in order  ->  Evaluation

A record depends on its sample, on both models and their sessions, on the metric and on the runtime; all of them are in
its key. So evaluations are the same to the last bit with any crew, with shards taken up again from a journal, and with
none. The float model's outputs are computed once for all models that a shard is run through.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from typing import Any

from qcompiler import ir
from qcompiler._version import __version__
from qcompiler.analysis import Evaluation, Metric, SessionConfig
from qcompiler.analysis.ask import KNOWN, check_metric, measure_for
from qcompiler.analysis.cpu import cpu_flags
from qcompiler.analysis.evaluate import sweep
from qcompiler.analysis.measures import Measure, Own
from qcompiler.analysis.metrics import load_metric
from qcompiler.analysis.record import Record
from qcompiler.analysis.session import config_of
from qcompiler.analysis.tap import known_count, no_samples
from qcompiler.data import Sample
from qcompiler.data.shards import Shard
from qcompiler.search.crew import Crew, InProcess, Shared
from qcompiler.search.deadline import Deadline
from qcompiler.search.feeding import Feeding, UnseenError, samples_of
from qcompiler.search.journal import Journal, content_key
from qcompiler.search.record_json import record_from_json, record_to_json
from qcompiler.search.served import Served, ready

Tell = Callable[[int, "int | None"], None]
Found = dict[str, list[Record]]

LEAST = 32
"""Samples that are seen however late it is."""


@dataclass(eq=False)
class _Pending:
    """A shard on its way: what is known of it, and the call for the rest."""

    shard: Shard
    known: Found
    missing: tuple[str, ...]
    future: Future[list[list[Record]]] | None = None


class Evaluations:
    """See the module.

    Args:
        original: the float model.
        source: samples; read once, and again where a shard is missing in the journal later on.
        metric: a name, `package.module:name`, or a function; see `analysis.ask`.
        config: session settings of the models; those of the float model are in its metadata.
        crew: does the work.
        journal: what is known.

    Attributes:
        runs: how many times a model was run on a shard.
        original, reference, config: the float model, what it is served as, settings of the others.
    """

    def __init__(
        self,
        original: ir.Model,
        source: Iterable[Sample],
        *,
        metric: str | Metric | None = None,
        config: SessionConfig | None = None,
        crew: Crew | None = None,
        journal: Journal | None = None,
    ) -> None:
        self.original, self.source, self._metric = original, source, metric
        self.config = config or SessionConfig()
        self.reference = Served.of(original, config_of(original, self.config.threads))
        self._crew = crew or InProcess()
        self._journal = journal if journal is not None else Journal()
        self._feeding = Feeding(source, self._crew)
        self._reference = self._crew.share(self.reference.digest, self.reference)
        self.runs = 0

    @cached_property
    def measure(self) -> Measure:
        """What is asked, decided on the first sample.

        Raises:
            DataError: there are no samples, or as for `measure_for`.
        """
        check_metric(self._metric)
        for shard in self._feeding.shards:
            first = self._feeding.shards.samples(shard)[0]
            return measure_for(self._metric, ready(self.reference).run(first.feed, sample=first.name), first)
        raise no_samples(self.source)

    @property
    def count(self) -> int | None:
        """Number of samples, where it is known."""
        return known_count(self.source)

    def serve(self, model: ir.Model) -> Served:
        """A model with the settings that it is evaluated with."""
        return self.reference if model is self.original else Served.of(model, self.config)

    def evaluate(
        self,
        models: Mapping[str, ir.Model | Served],
        *,
        first: int | None = None,
        measure: Measure | None = None,
        tell: Tell | None = None,
    ) -> dict[str, Evaluation]:
        """The evaluation of each model, under its name.

        Args:
            models: with the inputs and outputs of the float model.
            first: about so many samples, whole shards, from the first on; None for all.
            measure: what to ask, in place of the metric.
            tell: called after every shard.

        Raises:
            DataError: as for `analysis.evaluate`.
            WorkerError: the crew cannot do the work.
        """
        records: Found = {name: [] for name in models}
        for _, found in self.sweep(models, first=first, measure=measure, tell=tell):
            for name, some in found.items():
                records[name] += some
        return {name: Evaluation.of(measure or self.measure, some) for name, some in records.items()}

    def rounds(
        self, models: Mapping[str, ir.Model | Served], deadline: Deadline, tell: Tell | None = None
    ) -> Iterator[tuple[Measure, Found]]:
        """What was asked, and shard by shard the records, as for `sweep`.

        When the deadline has passed, the samples that were seen must do, `LEAST` at least. Bounds stay right: time does
        not look at results.
        """
        for shard, found in self.sweep(models, tell=tell):
            yield self.measure, found
            if shard.stop >= LEAST and deadline.passed:
                return

    def sweep(
        self,
        models: Mapping[str, ir.Model | Served],
        *,
        first: int | None = None,
        measure: Measure | None = None,
        tell: Tell | None = None,
    ) -> Iterator[tuple[Shard, Found]]:
        """Shard by shard, in order, the records of each model; arguments and errors as for `evaluate`.

        A name that is taken out of `models` is evaluated no further.
        """
        asked = measure or self.measure
        served = {n: model if isinstance(model, Served) else self.serve(model) for n, model in models.items()}
        handles = {name: self._crew.share(one.digest, one) for name, one in served.items()}
        keys = {name: self._key(one, asked) for name, one in served.items()}
        count = self.count if first is None or self.count is None else min(self.count, first)
        waiting: deque[_Pending] = deque()

        def finished(pending: _Pending) -> tuple[Shard, Found]:
            found = self._finish(pending, handles, keys, asked)
            if tell is not None:
                tell(pending.shard.stop if count is None else min(count, pending.shard.stop), count)
            return pending.shard, {name: found[name] for name in models if name in found}

        try:
            for shard in takewhile(lambda shard: first is None or shard.start < first, self._feeding.shards):
                some = {name: keys[name] for name in models if name in keys}
                waiting.append(self._begin(shard, handles, some, asked))
                if len(waiting) > self._crew.ahead:
                    yield finished(waiting.popleft())
            while waiting:
                yield finished(waiting.popleft())
        finally:
            for pending in waiting:
                if pending.future is not None:
                    pending.future.cancel()

    def _begin(
        self, shard: Shard, handles: Mapping[str, Shared], keys: Mapping[str, str], measure: Measure
    ) -> _Pending:
        known = {}
        for name, key in keys.items():
            records = self._known(key, shard)
            if records is not None:
                known[name] = records
        pending = _Pending(shard, known, tuple(name for name in keys if name not in known))
        if pending.missing:
            pending.future = self._submit(pending, handles, measure)
        return pending

    def _submit(self, pending: _Pending, handles: Mapping[str, Shared], measure: Measure) -> Future[list[list[Record]]]:
        self.runs += len(pending.missing)
        models = [handles[name] for name in pending.missing]
        return self._crew.submit(judged, self._feeding.part(pending.shard), measure, self._reference, *models)

    def _finish(
        self, pending: _Pending, handles: Mapping[str, Shared], keys: Mapping[str, str], measure: Measure
    ) -> Found:
        if pending.future is None:
            return pending.known
        try:
            found = self._crew.wait(pending.future)
        except UnseenError:
            self._feeding.hand_out()
            found = self._crew.wait(self._submit(pending, handles, measure))
        for name, records in zip(pending.missing, found, strict=True):
            if self._journalled:
                self._journal.put(_at(keys[name], pending.shard), [record_to_json(record) for record in records])
        return {**pending.known, **dict(zip(pending.missing, found, strict=True))}

    def _known(self, key: str, shard: Shard) -> list[Record] | None:
        found = self._journal.get(_at(key, shard)) if self._journalled else None
        try:
            return None if found is None else [record_from_json(entry) for entry in found]
        except (ValueError, KeyError, TypeError):
            return None  # of another version that forgot to say so

    @property
    def _journalled(self) -> bool:
        """Whether the metric can be told from others: a function that only this process has cannot."""
        return self._metric is None or isinstance(self._metric, str)

    @cached_property
    def _common(self) -> str:
        import onnxruntime

        versions = (__version__, onnxruntime.__version__, *cpu_flags())
        return content_key("evaluation", *versions, self.reference.digest)

    def _key(self, served: Served, measure: Measure) -> str:
        text = text_of(measure.function) if isinstance(measure, Own) else ""
        return content_key(self._common, served.digest, measure, text)


def judged(part: Any, measure: Measure, reference: Served, *models: Served) -> list[list[Record]]:
    """The records of some models on the samples of a shard: what a worker does."""
    runners = {str(number): ready(model) for number, model in enumerate(models)}
    found: list[list[Record]] = [[] for _ in models]
    for _, each in sweep(ready(reference), runners, samples_of(part), measure=measure):
        for number, records in enumerate(found):
            records.append(each[str(number)])
    return found


def _at(key: str, shard: Shard) -> str:
    return content_key(key, shard.digest)


def text_of(metric: str | Metric | None) -> str:
    """The text of the file that a metric of the user is in: another text may be another metric."""
    import sys

    if metric is None or (isinstance(metric, str) and KNOWN.fullmatch(metric)):
        return ""
    module = sys.modules.get(str(getattr(load_metric(metric), "__module__", "")))
    file = getattr(module, "__file__", None)
    return Path(file).read_text(encoding="utf-8", errors="replace") if file and Path(file).is_file() else ""
