"""Graph rewriting: patterns as data, rules that say why they did not fire, one driver."""

from qcompiler.rewrite.pattern import Any, Const, Match, Op, match, matches
from qcompiler.rewrite.rule import NOTHING_TO_DO, Outcome, Refusal, Rule, apply_rule, sweep

__all__ = [
    "NOTHING_TO_DO",
    "Any",
    "Const",
    "Match",
    "Op",
    "Outcome",
    "Refusal",
    "Rule",
    "apply_rule",
    "match",
    "matches",
    "sweep",
]
