from __future__ import annotations

from qcompiler.report.reasons import stayed_float
from qcompiler.report.record import NodeLine


def line(name: str, op: str, reason: str, precision: str = "float") -> NodeLine:
    return NodeLine(name, op, precision, "r", reason)


def test_names_and_operators_do_not_split_a_reason() -> None:
    nodes = [
        line("s", "Softmax", "slow"),
        line("m1", "Mul", "factor 'a' of Mul 'm1' is negative"),
        line("c", "Conv", "a rule", "int8"),
        line("m2", "Mul", "factor 'b' of Mul 'm2' is negative"),
        line("x1", "Shape", "no rule for Shape"),
        line("x2", "Cast", "no rule for Cast"),
        line("x3", "Cast", "no rule for Cast"),
    ]
    found = stayed_float(nodes)
    assert [(g.reason, g.nodes) for g in found] == [
        ("no rule for Cast, Shape", ("x1", "x2", "x3")),
        ("factor '...' of Mul '...' is negative", ("m1", "m2")),
        ("slow", ("s",)),
    ]
    assert found[0].ops == {"Cast": 2, "Shape": 1}


def test_a_reason_that_is_the_same_for_all_is_kept_word_for_word() -> None:
    nodes = [
        line("a", "Add", "kept float by --keep-float 'head*'"),
        line("b", "Mul", "kept float by --keep-float 'head*'"),
    ]
    assert [g.reason for g in stayed_float(nodes)] == ["kept float by --keep-float 'head*'"]


def test_many_operators_are_cut_short() -> None:
    nodes = [line(f"n{i}", f"Op{i}", f"no rule for Op{i}") for i in range(7)]
    assert [g.reason for g in stayed_float(nodes)] == ["no rule for Op0, Op1, Op2, Op3, ..."]


def test_an_operator_is_a_whole_word() -> None:
    nodes = [line("a", "Add", "Additional work"), line("b", "Sub", "Additional work")]
    assert [g.reason for g in stayed_float(nodes)] == ["Additional work"]
