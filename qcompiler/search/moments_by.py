"""Second moments of layers by whoever works, shard by shard: the sums are of integers, so they are the same bits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qcompiler import ir
from qcompiler.analysis import Payload, SessionConfig
from qcompiler.analysis.patch_moments import Layer, Moments, added, moments
from qcompiler.data import Sample
from qcompiler.search.crew import Crew, InProcess
from qcompiler.search.feeding import Feeding, samples_of
from qcompiler.search.served import Served


def moments_by(
    crew: Crew, model: ir.Model, samples: Sequence[Sample], layers: Mapping[str, Layer], config: SessionConfig
) -> dict[str, Moments]:
    """The moments of some layers; arguments and errors as for `moments`."""
    if isinstance(crew, InProcess):
        return moments(model, samples, layers, config=config)
    feeding, payload = Feeding(samples, crew), Payload.of(model)
    handle = crew.share(payload.digest, Served(payload, config, payload.digest))
    calls = ((dict(layers), handle, feeding.part(shard)) for shard in feeding.shards)
    found: dict[str, Moments] = {}
    for some in crew.ordered(observed, calls):
        found |= {name: added(found.get(name), seen) for name, seen in some.items()}
    return found


def observed(layers: Mapping[str, Layer], model: Served, part: Any) -> dict[str, Moments]:
    """The moments over one shard: what a worker does."""
    return moments(model.payload.model(), samples_of(part), layers, config=model.config)
