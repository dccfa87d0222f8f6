"""Presets and single algorithms: what a recipe says reaches the passes."""

from __future__ import annotations

import pytest

from qcompiler.errors import UsageError
from qcompiler.recipe import Recipe
from qcompiler.search.algorithms import PRESETS, Algorithms, names


def test_the_default_is_balanced() -> None:
    assert Recipe().chosen == PRESETS["balanced"] == Recipe(preset="balanced").chosen


def test_a_single_algorithm_is_switched_whatever_the_preset() -> None:
    recipe = Recipe().updated({"preset": "best", "algorithms": ["round-kernels=off", "correct_bias=on"]})
    assert not recipe.chosen.round_kernels and recipe.chosen.correct_bias
    assert recipe.chosen == PRESETS["best"].updated({"round-kernels": False})
    assert Recipe().updated({"algorithms": {"round-kernels": False}}).chosen == Algorithms.updated(
        PRESETS["balanced"], {"round-kernels": False}
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"preset": "tuned"}, "no preset 'tuned'"),
        ({"algorithms": {"round-nothing": True}}, "no algorithm 'round-nothing'"),
        ({"algorithms": ["round-kernels=maybe"]}, "neither on nor off"),
        ({"algorithms": ["round-kernels"]}, "neither on nor off"),
        ({"algorithms": {"round-kernels": 1}}, "neither on nor off"),
    ],
)
def test_what_does_not_exist_is_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Recipe().updated(changes)


def test_presets_only_add() -> None:
    for name in names():
        states = [getattr(PRESETS[preset], name.replace("-", "_")) for preset in ("fast", "balanced", "best")]
        assert states == sorted(states), name
