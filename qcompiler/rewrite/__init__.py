"""Graph rewriting: patterns as data, rules that say why they did not fire, one driver."""

from qcompiler.rewrite.pattern import Any, Const, Match, Op, match
from qcompiler.rewrite.rule import Outcome, Refusal, Rule, apply_rule, sweep

__all__ = ["Any", "Const", "Match", "Op", "Outcome", "Refusal", "Rule", "apply_rule", "match", "sweep"]
