"""A ranking of quantization groups, for a terminal and for machines."""

from __future__ import annotations

import json
from dataclasses import asdict

from qcompiler._version import __version__
from qcompiler.report.columns import Line, plural, shortened, table, wrapped
from qcompiler.search.ranking import Ranked, Ranking

SCHEMA = 1
NAME = 26


def ranking_json(ranking: Ranking) -> str:
    """Every group with all that was measured of it; keys as in `Ranked`, None where nothing was."""
    facts = {
        "schema": SCHEMA,
        "tool": {"name": "qcompiler", "version": __version__},
        **{key: value for key, value in asdict(ranking).items() if key != "groups"},
        "groups": [asdict(line) for line in ranking.groups],
    }
    return json.dumps(facts, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n"


def ranking_lines(ranking: Ranking, top: int) -> list[Line]:
    """The table, at most 80 characters wide, most harmful first."""
    title = f"{plural(len(ranking.groups), 'group')} in {ranking.precision}, {plural(ranking.samples, 'sample')}"
    found = [Line(f"{title}: SQNR of the worst output with one group quantized alone", "title")]
    timed = any(line.quantized_us is not None for line in ranking.groups)
    without = any(line.without_db is not None for line in ranking.groups)
    heads = ["group", "operator", "alone dB", {"sqnr": "local dB", "kl": "KL", "metric": "loss"}[ranking.by]]
    heads += ["others dB"] if without else []
    heads += [f"us {ranking.precision}", "us float"] if timed else []
    rows = [heads, *(_row(line, ranking.by, timed=timed, without=without) for line in ranking.groups[:top])]
    rows = [[*row, ""] for row in rows]  # the last column may be of any width
    found += [Line(text) for text in table(rows, right=range(2, len(heads)), gap=1)]
    if len(ranking.groups) > top:
        found.append(Line(f"and {len(ranking.groups) - top} less harmful ones: --top {len(ranking.groups)}"))
    if timed:
        said = "half the distance of the quartiles over the runs stands behind each time"
        found += [Line(text, "faint") for text in wrapped("times: ", f"{ranking.times}; {said}")]
    return found


def _row(line: Ranked, by: str, *, timed: bool, without: bool) -> list[str]:
    second = {"sqnr": _db(line.local_db), "kl": _number(line.divergence), "metric": _number(line.metric_loss)}[by]
    cells = [shortened(line.name, NAME), shortened(line.op, 12), _db(line.sqnr_db), second]
    cells += [_db(line.without_db)] if without else []
    if timed:
        pairs = (line.quantized_us, line.quantized_noise_us), (line.float_us, line.float_noise_us)
        cells += [f"{time:.0f}±{noise:.0f}" if time is not None and noise is not None else "" for time, noise in pairs]
    return cells


def _db(value: float | None) -> str:
    return "exact" if value is None else f"{value:.1f}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
