"""The session part of a report: which options the model was measured with, what they gain, and how to apply them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from qcompiler.analysis import Timing, speedup
from qcompiler.analysis.session import OPTIMIZED, options_json, snippet
from qcompiler.report.build import finite
from qcompiler.report.columns import Line, milliseconds, plural, wrapped
from qcompiler.search.tune import KEEP, Tuned

CACHE = (
    f"{OPTIMIZED} is a cache of ONNX Runtime's optimised graph, for this version of it and this CPU only; "
    "qcompiler.session takes it where both match, model.onnx elsewhere"
)


def session_facts(tuned: Tuned, *, optimized: bool) -> dict[str, Any]:
    """The session as plain values; times in milliseconds, gains against the session without options."""
    return {
        "options": options_json(tuned.config),
        "snippet": list(snippet(tuned.config)),
        "kept_over": KEEP,
        "tried": [
            {
                "disabled_optimizers": list(tried.config.disabled_optimizers),
                "gain": finite(tried.gain.ratio),
                "noise": finite(tried.gain.noise),
                "reason": tried.said,
            }
            for tried in tuned.tried
        ],
        "float_ms": _ms(tuned.given),
        "plain_ms": _ms(tuned.plain),
        "session_ms": _ms(tuned.timing),
        "plain_speedup": _gain(tuned.given, tuned.plain),
        "session_speedup": _gain(tuned.given, tuned.timing),
        "optimized": CACHE if optimized else "",
    }


def _ms(timing: Timing | None) -> float | None:
    return None if timing is None else finite(timing.median_ms, 4)


def _gain(first: Timing | None, second: Timing | None) -> float | None:
    return None if first is None or second is None else finite(speedup(first, second).ratio)


def session_lines(session: Mapping[str, Any]) -> Iterator[Line]:
    """The session for a person: options and the lines that apply them, or that the default ones do."""
    options = session.get("options") or {}
    off = options.get("disabled_optimizers") or ()
    threads = plural(int(options.get("threads") or 1), "thread")
    if off or options.get("entries"):
        words = f"without {', '.join(off)}, {threads}"
        yield from map(Line, wrapped("session: ", f"{words}: {_figures(session, 'session')}"))
        yield from map(Line, wrapped("  ", f"plain onnxruntime, without these options: {_figures(session, 'plain')}"))
        yield Line("  qcompiler.session(FOLDER) applies them; so do these lines:", "faint")
        yield from (Line(f"  {line}") for line in session.get("snippet") or ())
    elif session.get("tried"):
        text = f"onnxruntime's default options, {threads}; {plural(len(session['tried']), 'other')} tried, none over "
        yield from map(Line, wrapped("session: ", f"{text}{100 * (session['kept_over'] - 1):.0f} % faster"))
    if session.get("optimized"):
        yield from map(Line, wrapped("cache: ", str(session["optimized"])))


def _figures(session: Mapping[str, Any], which: str) -> str:
    time, gain = session.get(f"{which}_ms"), session.get(f"{which}_speedup")
    return "not measured" if time is None or gain is None else f"{milliseconds(time)}, {gain:.2f}x as fast as float"


def finding_lines(findings: list[Mapping[str, Any]], shown: int) -> Iterator[Line]:
    """The slow forms that the backend was caught in, most expensive first."""
    if findings:
        yield Line("slow forms in the backend's graph:")
    for entry in findings[:shown]:
        cost = entry.get("microseconds")
        share = "" if entry.get("share") is None else f", {100 * entry['share']:.1f} % of a run"
        words = "" if cost is None else f" ({cost:g} us{share})"
        text = f"{entry['node']}: {entry['trap']}{words}: {entry['what']} ({entry['rule']}); try {entry['remedy']}"
        yield from (Line(line, "bad") for line in wrapped("  ", text))
    if len(findings) > shown:
        yield Line(f"  and {len(findings) - shown} more in report.json", "faint")
