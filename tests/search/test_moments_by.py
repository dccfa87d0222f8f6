"""Second moments are the same bits in one process and in several."""

from __future__ import annotations

import numpy as np

from qcompiler.analysis import SessionConfig
from qcompiler.passes.plan.ada_round import layers_of
from qcompiler.search.executors import InProcess, open_executor
from qcompiler.search.moments_by import moments_by, observed
from qcompiler.search.served import Served
from tests.search.test_improve import SAMPLES, drafted


def test_moments_of_shards_add_up_to_those_of_all_samples() -> None:
    *_, base = drafted()
    layers, config = layers_of(base.planned, base.plan), SessionConfig()
    here = moments_by(InProcess(), base.planned, SAMPLES, layers, config)
    with open_executor(2) as crew:
        there = moments_by(crew, base.planned, SAMPLES, layers, config)
    assert set(here) == set(there) == set(layers)
    few = observed(layers, Served.of(base.planned, config), SAMPLES[:5])
    for name, whole in here.items():
        assert there[name].count == whole.count > few[name].count
        assert np.array_equal(there[name].first, whole.first) and np.array_equal(there[name].second, whole.second)
