"""Sensitivities from the journal, where the same groups of the same model were measured on the same samples before."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from qcompiler._version import __version__
from qcompiler.analysis import SessionConfig
from qcompiler.analysis.cpu import cpu_flags
from qcompiler.data import Sample
from qcompiler.data.shards import digest
from qcompiler.numerics import SqnrMeter
from qcompiler.quant import Precision
from qcompiler.search.candidates import Candidate
from qcompiler.search.damage import Damage
from qcompiler.search.groups import Group
from qcompiler.search.journal import Journal, content_key
from qcompiler.search.sensitivity import Case, Sensitivity, swept
from qcompiler.search.served import Served


def remembered(
    journal: Journal,
    bases: Mapping[Precision, tuple[Candidate, Sequence[Group]]],
    samples: Sequence[Sample],
    config: SessionConfig,
    memory: int,
    progress: Callable[[int, int], None],
) -> dict[Precision, tuple[Sensitivity, ...]]:
    """The harm of each group with it alone quantized, in each precision; arguments as for `swept`."""
    keys = {p: content_key(*_about(base, groups, samples, config)) for p, (base, groups) in bases.items()}
    known = {p: journal.get(key) for p, key in keys.items()}
    cases = {p: [Case(base, group) for group in groups] for p, (base, groups) in bases.items() if known[p] is None}
    measured: Iterator[Sensitivity] = iter(())
    if cases:
        every = [case for some in cases.values() for case in some]
        measured = iter(swept(every, samples, samples=len(samples), memory=memory, config=config, progress=progress))
    found: dict[Precision, tuple[Sensitivity, ...]] = {}
    for precision, (_, groups) in bases.items():
        if precision in cases:
            found[precision] = tuple(itertools.islice(measured, len(groups)))
            journal.put(keys[precision], [_plain(one) for one in found[precision]])
        else:
            entries = zip(groups, known[precision], strict=True)
            found[precision] = tuple(_own(group, entry) for group, entry in entries)
    return found


def _about(base: Candidate, groups: Sequence[Group], samples: Sequence[Sample], config: SessionConfig) -> list[object]:
    """Everything that the sensitivities depend on."""
    import onnxruntime

    names = [name for group in groups for name in ("", group.name, *group.planned)]
    version = (__version__, onnxruntime.__version__, *cpu_flags())
    return ["sensitivity", *version, Served.of(base.model, config).digest, digest(samples), *names]


def _plain(one: Sensitivity) -> dict[str, Any]:
    outputs = {name: [meter.signal, meter.noise, meter.count] for name, meter in one.alone.outputs.items()}
    return {"outputs": outputs, "divergence": one.alone.divergence, "local_db": one.local_db}


def _own(group: Group, entry: dict[str, Any]) -> Sensitivity:
    meters = {name: SqnrMeter(*numbers) for name, numbers in entry["outputs"].items()}
    return Sensitivity(group, Damage(meters, entry["divergence"]), None, entry["local_db"])
