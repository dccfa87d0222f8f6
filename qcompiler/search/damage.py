"""What quantization did to a model's outputs, summed over samples."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from qcompiler.analysis import Evaluation, Record, measure_for
from qcompiler.analysis.ask import token_output
from qcompiler.analysis.evaluate import figures
from qcompiler.analysis.measures import Measure
from qcompiler.analysis.metrics import Array, class_output
from qcompiler.analysis.record import record
from qcompiler.analysis.run import is_float
from qcompiler.data import Sample
from qcompiler.numerics import SqnrMeter
from qcompiler.numerics.divergence import divergence


@dataclass(frozen=True, eq=False)
class Damage:
    """Noise that reached the outputs.

    Attributes:
        outputs: signal and noise of each float output.
        divergence: mean KL divergence of the scores of classes or of next tokens from those of float, in nats; None
            without such.
        tokens: the scores are of tokens.
    """

    outputs: Mapping[str, SqnrMeter]
    divergence: float | None = None
    tokens: bool = False

    @property
    def harm(self) -> float:
        """What a search adds up: the divergence of tokens, which perplexity is made of; of other models the noise.

        A language model may have more outputs, a cache of keys and values for one, whose noise does no harm by itself.
        """
        return self.divergence if self.tokens and self.divergence is not None else self.total

    @property
    def total(self) -> float:
        """Noise over signal, summed over the outputs; inf where an output is ruined."""
        return math.fsum(_ratio(meter) for meter in self.outputs.values())

    @property
    def sqnr_db(self) -> float:
        """SQNR of the worst output."""
        return min((meter.db for meter in self.outputs.values()), default=math.inf)


@dataclass(frozen=True, eq=False)
class Kept:
    """One sample: what the parts read, and what the float model gives."""

    sample: Sample
    values: dict[str, Array]
    outputs: dict[str, Array]


@dataclass(eq=False)
class Tally:
    """What one group does, as far as samples were seen."""

    outputs: dict[str, SqnrMeter] = field(default_factory=dict)
    local: SqnrMeter = field(default_factory=SqnrMeter)
    nats: float = 0.0
    rows: int = 0
    tokens: bool = False
    records: list[Record] = field(default_factory=list)

    def add(self, found: dict[str, Array], kept: Kept, own: frozenset[str], asked: Asked) -> None:
        """Adds what a part gave for one sample; `own` are tensors of the group that are no outputs of the model."""
        wanted, scores = {**kept.values, **kept.outputs}, asked.scores
        if asked.measure is not None:
            outputs = {**kept.outputs, **{name: array for name, array in found.items() if name not in own}}
            before = asked.measure.scores(kept.outputs, kept.outputs, kept.sample)
            self.records.append(record(asked.measure, outputs, kept.outputs, kept.sample, before))
        for name, array in found.items():
            if not is_float(array) or not is_float(wanted.get(name)) or array.shape != wanted[name].shape:
                continue
            if name in own:
                self.local = self.local.update(wanted[name], array)
            else:
                self.outputs[name] = self.outputs.get(name, SqnrMeter()).update(wanted[name], array)
            if name == scores:
                self.tokens = asked.tokens
                nats, rows = divergence(wanted[name], array)
                self.nats, self.rows = self.nats + nats, self.rows + rows

    def damage(self) -> Damage:
        """At the outputs."""
        return Damage(dict(self.outputs), self.nats / self.rows if self.rows else None, self.tokens)

    def loss(self, asked: Asked) -> float | None:
        """Of the metric; None where it was not asked for."""
        if asked.measure is None or not self.records:
            return None
        found = Evaluation.of(asked.measure, self.records)
        return float(asked.measure.loss(figures(found.float_scores), figures(found.scores)))


@dataclass(eq=False)
class Asked:
    """What the float model's first outputs say: which output holds scores, of tokens or not, and what the metric is."""

    metric: str | None = None
    wanted: bool = False
    scores: str | None = None
    tokens: bool = False
    measure: Measure | None = None

    def see(self, outputs: dict[str, Array], sample: Sample) -> None:
        """Takes note of the float model's outputs for a sample."""
        if self.scores is None:
            self.scores = class_output(outputs) or token_output(outputs, sample)
            self.tokens = self.scores is not None and class_output(outputs) is None
        if self.wanted and self.measure is None:
            self.measure = measure_for(self.metric, outputs, sample)


def _ratio(meter: SqnrMeter) -> float:
    if meter.noise == 0:
        return 0.0
    return meter.noise / meter.signal if meter.signal > 0 else math.inf
