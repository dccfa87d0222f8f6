"""Sensitivities by whoever works, a few groups at a time, each written down as it ends.

    unit = GROUPS groups, in every precision that they may have, on all samples

What is measured of a group depends on the values on its border, and ONNX Runtime computes those in the same bits only
where the same ones are asked for beside them. So units are cut by the groups alone: not by how many work, nor by what
is in the journal. A sweep that was stopped goes on with the first unit that is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qcompiler import ir
from qcompiler._version import __version__
from qcompiler.analysis import SessionConfig
from qcompiler.analysis.cpu import cpu_flags
from qcompiler.data import Sample
from qcompiler.data.shards import digest
from qcompiler.numerics import SqnrMeter
from qcompiler.quant import Precision, QuantPlan
from qcompiler.search.candidates import Candidate
from qcompiler.search.damage import Damage
from qcompiler.search.evaluations import text_of
from qcompiler.search.feeding import Feeding, samples_of
from qcompiler.search.groups import Group
from qcompiler.search.journal import content_key
from qcompiler.search.means import Means
from qcompiler.search.sensitivity import Case, Sensitivity, Simulate, swept
from qcompiler.search.served import Served

GROUPS = 36
Bases = Mapping[Precision, tuple[Candidate, Sequence[Group]]]


@dataclass(frozen=True)
class Asking:
    """What is asked of every group; the fields are arguments of `swept`.

    Attributes:
        memory: for all that one machine does at once.
    """

    config: SessionConfig
    memory: int
    simulate: Simulate
    without: bool = False
    loss: bool = False
    metric: Any = None

    @property
    def told_apart(self) -> bool:
        """Whether the metric can be told from others: a function that only this process has cannot."""
        return not self.loss or self.metric is None or isinstance(self.metric, str)


@dataclass(frozen=True, eq=False)
class Subject:
    """A candidate as it goes to where it is measured."""

    planned: Served
    runs: Served
    plan: QuantPlan
    precision: Precision

    @staticmethod
    def of(candidate: Candidate, config: SessionConfig) -> Subject:
        """See the class."""
        planned, runs = Served.of(candidate.planned, config), Served.of(candidate.runs, config)
        return Subject(planned, runs, candidate.plan, candidate.precision)

    @property
    def digest(self) -> str:
        """Of the graph and of what the plan made of it."""
        return content_key(self.planned.digest, self.runs.digest)

    def candidate(self) -> Candidate:
        """The candidate again, as far as it matters here."""
        return Candidate(self.precision, "", _graph(self.planned), _graph(self.runs), self.plan)


def sweep(
    means: Means, bases: Bases, samples: Sequence[Sample], asking: Asking, progress: Callable[[int, int], None]
) -> dict[Precision, tuple[Sensitivity, ...]]:
    """The sensitivity of every group of some candidates, in their order; errors as for `swept`.

    Args:
        means: who works, and the journal.
        bases: the candidates with their groups; groups of one name are parts of the same unit.
        samples: to measure on.
        asking: what.
        progress: called with the number of groups done, and how many there are.
    """
    units = units_of(bases)
    subjects = [Subject.of(base, asking.config) for base, _ in bases.values()]
    keys = [content_key(*_about(subjects, unit, samples, asking)) for unit in units]
    entries = [means.journal.get(key) if asking.told_apart else None for key in keys]
    found = [None if entry is None else _parsed(entry, unit) for entry, unit in zip(entries, units, strict=True)]
    missing = [number for number, known in enumerate(found) if known is None]
    if missing:
        handles = [means.crew.share(subject.digest, subject) for subject in subjects]
        feeding = Feeding(samples, means.crew)
        parts = [feeding.part(shard) for shard in feeding.shards]
        calls = ((asking, means.crew.beside, units[number], *handles, *parts) for number in missing)
        total = sum(len(groups) for _, groups in bases.values())
        for number, result in zip(missing, means.crew.ordered(measured, calls), strict=True):
            found[number] = result
            if asking.told_apart:
                means.journal.put(keys[number], [[_plain(one) for one in some] for some in result])
            progress(sum(len(some) for done in found if done is not None for some in done), total)
    return {
        precision: tuple(one for unit in found if unit is not None for one in unit[place])
        for place, precision in enumerate(bases)
    }


def units_of(bases: Bases) -> list[tuple[tuple[Group, ...], ...]]:
    """The groups in pieces: for each piece those of each candidate."""
    names = list(dict.fromkeys(group.name for _, groups in bases.values() for group in groups))
    pieces = [set(names[start : start + GROUPS]) for start in range(0, len(names), GROUPS)]
    return [
        tuple(tuple(group for group in groups if group.name in piece) for _, groups in bases.values())
        for piece in pieces
    ]


def measured(asking: Asking, beside: int, unit: Sequence[Sequence[Group]], *rest: Any) -> list[list[Sensitivity]]:
    """The sensitivities of a unit: what a worker does. The rest are the subjects, then the samples in parts."""
    candidates = [subject.candidate() for subject in rest[: len(unit)]]
    cases = [Case(candidate, group) for candidate, some in zip(candidates, unit, strict=True) for group in some]
    samples = [sample for part in rest[len(unit) :] for sample in samples_of(part)]
    found = iter(
        swept(
            cases, samples, samples=len(samples), memory=asking.memory // beside, config=asking.config,
            without=asking.without, loss=asking.loss, metric=asking.metric, simulate=asking.simulate,
        )
    )  # fmt: skip
    return [[next(found) for _ in some] for some in unit]


def _graph(served: Served) -> ir.Model:
    return served.model if isinstance(served.model, ir.Model) else served.payload.model()


def _about(
    subjects: Sequence[Subject], unit: Sequence[Sequence[Group]], samples: Sequence[Sample], asking: Asking
) -> list[object]:
    """Everything that the sensitivities of a unit depend on."""
    import onnxruntime

    names = [name for groups in unit for group in groups for name in ("", group.name, *group.planned)]
    metric = (asking.metric, text_of(asking.metric)) if asking.loss else ()
    version = (__version__, onnxruntime.__version__, *cpu_flags())
    about = ["sensitivity 2", *version, digest(samples), asking.without, asking.loss, *metric]
    return [*about, *(subject.digest for subject in subjects), *names]


def _plain(one: Sensitivity) -> dict[str, Any]:
    sides = {"alone": one.alone, "without": one.without}
    damages = {
        side: None if damage is None else {
            "outputs": {name: [meter.signal, meter.noise, meter.count] for name, meter in damage.outputs.items()},
            "divergence": damage.divergence,
            "tokens": damage.tokens,
        }
        for side, damage in sides.items()
    }  # fmt: skip
    return {**damages, "local_db": one.local_db, "metric_loss": one.metric_loss}


def _parsed(entry: Any, unit: Sequence[Sequence[Group]]) -> list[list[Sensitivity]]:
    return [
        [_own(group, one) for group, one in zip(groups, some, strict=True)]
        for groups, some in zip(unit, entry, strict=True)
    ]


def _own(group: Group, entry: Mapping[str, Any]) -> Sensitivity:
    alone, without = (
        None
        if side is None
        else Damage({n: SqnrMeter(*m) for n, m in side["outputs"].items()}, side["divergence"], side["tokens"])
        for side in (entry["alone"], entry["without"])
    )
    assert alone is not None
    return Sensitivity(group, alone, without, entry["local_db"], entry["metric_loss"])
