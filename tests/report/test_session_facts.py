from __future__ import annotations

import numpy as np

from qcompiler.analysis import SessionConfig, Speedup, Timing
from qcompiler.report.session_facts import finding_lines, session_facts, session_lines
from qcompiler.report.text import lines
from qcompiler.search.tune import Tried, Tuned
from tests.report.hand_made import report

OFF = SessionConfig(disabled_optimizers=("SkipLayerNormFusion",))


def timing(ms: float) -> Timing:
    return Timing(np.full((4, 3), ms / 1e3))


def tuned(config: SessionConfig) -> Tuned:
    tried = (Tried(OFF, Speedup(1.25, 0.01), "kept"),)
    plain = timing(5.0)
    return Tuned(config, tried, timing(10.0), plain, timing(4.0) if config == OFF else plain)


def text_of(facts: dict[str, object]) -> str:
    return "\n".join(line.text for line in session_lines(facts))


def test_options_are_said_with_what_plain_onnxruntime_gives_and_the_lines_that_apply_them() -> None:
    facts = session_facts(tuned(OFF), optimized=False)
    assert (facts["float_ms"], facts["plain_ms"], facts["session_ms"]) == (10.0, 5.0, 4.0)
    assert (facts["plain_speedup"], facts["session_speedup"]) == (2.0, 2.5)
    assert facts["tried"] == [
        {"disabled_optimizers": ["SkipLayerNormFusion"], "gain": 1.25, "noise": 0.01, "reason": "kept"}
    ]
    text = text_of(facts)
    assert "without SkipLayerNormFusion, 1 thread: 4.00 ms, 2.50x as fast as float" in text
    assert "plain onnxruntime, without these options: 5.00 ms, 2.00x as fast as float" in text
    assert len(facts["snippet"]) == 6
    assert all(f"  {line}" in text.splitlines() for line in facts["snippet"])
    assert max(map(len, text.splitlines())) <= 80


def test_default_options_need_no_snippet_on_the_screen() -> None:
    text = text_of(session_facts(tuned(SessionConfig()), optimized=False))
    assert "default options, 1 thread; 1 other tried, none over 3 %" in text and "import" not in text
    assert text_of(session_facts(Tuned(SessionConfig()), optimized=False)) == ""
    assert session_facts(Tuned(SessionConfig()), optimized=False)["plain_ms"] is None


def test_the_cache_says_what_it_is_tied_to() -> None:
    text = " ".join(text_of(session_facts(tuned(OFF), optimized=True)).split())
    assert "for this version of it and this CPU only" in text


def test_findings_name_node_trap_cost_rule_and_remedy() -> None:
    entry = {
        "trap": "QLinearSoftmax", "node": "soft", "runs_as": "QLinearSoftmax", "what": "6 times slower than float",
        "rule": "rule 10", "remedy": "leave Softmax float", "microseconds": 490.0, "share": 0.125,
    }  # fmt: skip
    text = " ".join(" ".join(line.text for line in finding_lines([entry], 5)).split())
    assert "soft: QLinearSoftmax (490 us, 12.5 % of a run): 6 times slower than float (rule 10); try leave" in text
    shown = [line.text for line in finding_lines([entry] * 7, 5)]
    assert shown[-1] == "  and 2 more in report.json"
    assert list(finding_lines([], 5)) == []


def test_the_table_has_both() -> None:
    findings = [{"trap": "T", "node": "n", "what": "w", "rule": "r", "remedy": "m", "microseconds": None}]
    whole = report(
        session=session_facts(tuned(OFF), optimized=True), backend={"name": "onnxruntime", "findings": findings}
    )
    text = [line.text for line in lines(whole)]
    assert any(line.startswith("session: without SkipLayerNormFusion") for line in text)
    assert "  n: T: w (r); try m" in text and max(map(len, text)) <= 80
    assert type(whole).from_json(whole.to_json()).session["kept_over"] == 1.03
