"""Sensitivities from the journal, where the same groups of the same model were measured on the same samples before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from qcompiler._version import __version__
from qcompiler.analysis import SessionConfig
from qcompiler.analysis.cpu import cpu_flags
from qcompiler.data import Sample
from qcompiler.data.shards import digest
from qcompiler.numerics import SqnrMeter
from qcompiler.search.candidates import Candidate
from qcompiler.search.damage import Damage
from qcompiler.search.groups import Group
from qcompiler.search.journal import Journal, content_key
from qcompiler.search.sensitivity import Sensitivity, sensitivities
from qcompiler.search.served import Served


def remembered(
    journal: Journal,
    base: Candidate,
    groups: Sequence[Group],
    samples: Sequence[Sample],
    config: SessionConfig,
    memory: int,
    progress: Callable[[int, int], None],
) -> tuple[Sensitivity, ...]:
    """The harm of each group with it alone quantized; arguments as for `sensitivities`."""
    key = content_key(*_about(base, groups, samples, config))
    known = journal.get(key)
    if known is None:
        found = sensitivities(
            base, groups, samples, samples=len(samples), memory=memory, config=config, progress=progress
        )
        journal.put(key, [_plain(one) for one in found])
        return found
    return tuple(_own(group, entry) for group, entry in zip(groups, known, strict=True))


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
