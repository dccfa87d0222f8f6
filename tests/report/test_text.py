from __future__ import annotations

from dataclasses import replace

import pytest

from qcompiler.report import Accuracy, CandidateLine, Latency, NodeLine
from qcompiler.report.text import lines, summary
from tests.report.hand_made import report

TABLE = """\
net.onnx -> onnxruntime:vnni, int8, mse ranges from 256 samples

                 float  quantized
top-1           98.44%     98.24%  drop 0.20 points (-0.40 to 0.98), 512 samples
signal/noise              34.2 dB  at output logits, the worst
latency       0.812 ms   0.311 ms  2.61x as fast (+- 0.03), 1 thread
weights       310.7 kB    93.1 kB  3.34x smaller
contract                           holds: within 1%, 95% sure

nodes as onnxruntime runs it: 3 integer, 8 float
stayed float:
  2  factor '...' of Mul '...' is not positive (e.g. bn2)
  2  no rule of the target for Shape, Cast (e.g. shape)
  1  QLinearSoftmax is 6 times slower than float (e.g. soft)
  1  there is no integer kernel (e.g. erf)
  1  there is no static integer kernel (e.g. lstm)
  and 1 more reason: qcompile explain out
tried:
  int8 mse  0.20 pt  2.61x  93.1 kB  shipped: the fastest (2.61 times)
  w8        0.00 pt  0.93x  99.1 kB  no faster than float (0.93 times)
notes:
  - opset 17 converted to 21
written to out: model.onnx (120.1 kB), plan.json (2.0 kB), report.json
"""


def test_the_table() -> None:
    assert summary(report(), "out") == TABLE


@pytest.mark.parametrize(
    ("method", "words"),
    [("mse", "int8, mse ranges from 256 samples"), ("mse, 5 nodes float", "int8, mse ranges from 256 samples"),
     ("5 nodes float", "int8"), ("", "int8")],
)  # fmt: skip
def test_the_title_says_the_range_method_alone(method: str, words: str) -> None:
    line = replace(report().candidates[0], method=method)
    title = lines(report(candidates=(line, *report().candidates[1:])))[0].text
    assert title == f"net.onnx -> onnxruntime:vnni, {words}"


def test_styles_carry_no_text() -> None:
    styled = lines(report(), "out")
    assert "".join(f"{line.text}\n" for line in styled) == TABLE
    assert [line.text.strip()[:8] for line in styled if line.style == "good"] == ["contract", "int8 mse"]


def test_no_line_is_wider_than_80_columns() -> None:
    long = "/model/" + "block/" * 30 + "Conv"
    nodes = tuple(NodeLine(f"{long}{i}", "Conv", "float", "float", f"reason {i} {long}") for i in range(9))
    candidates = tuple(
        CandidateLine("int8", "percentile", 0.9, 0.1, 3.0, 1.0, 10**9, i == 8, f"broken: {long}" * 3) for i in range(9)
    )
    accuracy = Accuracy(
        "package.module:function_with_a_name", 123456.789, 0.1, 1e-9, -1e9, 1e9, 10**6, "undecided", {long: 5}
    )
    full = report(
        model={"name": long},
        nodes=(*report().nodes, *nodes),
        candidates=candidates,
        notes=(long, "word " * 100),
        accuracy=accuracy,
    )
    assert max(len(line.text) for line in lines(full, "out/" + "x" * 30)) <= 80


def test_what_was_not_measured_is_said() -> None:
    accuracy = Accuracy("", None, None, None, None, None, 0, "not measured")
    text = summary(report(accuracy=accuracy, latency=Latency(None, None, None, None, 1)))
    rows = [line.split() for line in text.splitlines()]
    assert ["accuracy", "-", "-", "not", "measured"] in rows
    assert ["latency", "-", "-", "not", "measured"] in rows
    assert "signal/noise" not in text
    assert "written" not in text


def test_an_exact_result_is_called_exact_and_a_larger_one_larger() -> None:
    exact = replace(report().accuracy, output_sqnr_db={"logits": None})
    text = summary(report(accuracy=exact, size={"float_bytes": 100, "quantized_bytes": 150}))
    assert "exact  every output equals the float model's" in text
    assert "1.50x larger" in text


def test_verdicts() -> None:
    for verdict, words in (
        ("broken", "broken: the metric falls by more than 1%"),
        ("undecided", "undecided: within 1% or not, about 730 samples would tell"),
    ):
        text = spoken(verdict=verdict, samples_needed=730 if verdict == "undecided" else None)
        assert words in text
        (style,) = {
            line.style
            for line in lines(report(accuracy=replace(report().accuracy, verdict=verdict)))
            if line.text.startswith("contract")
        }
        assert style == "bad"
    assert "undecided: within 1% or not, too few samples to say" in spoken(verdict="undecided")
    assert "holds: within 1% (the default), 95% sure" in spoken(stated=False)
    assert "contract holds" in spoken(limit="none", stated=False)
    assert "contract" not in summary(report(accuracy=replace(report().accuracy, verdict="informative")))


def spoken(**changes: object) -> str:
    """The table with another accuracy, its spaces and line ends made single spaces."""
    return " ".join(summary(report(accuracy=replace(report().accuracy, **changes))).split())  # type: ignore[arg-type]


def test_units_of_the_metric() -> None:
    assert "perplexity 3.62 3.66 drop 0.04 (0.02 to 0.06), 64 samples" in spoken(
        metric="perplexity", float=3.62, quantized=3.66, drop=0.04, ci_low=0.02, ci_high=0.06, samples=64, unit="number"
    )
    noise = spoken(
        metric="lowest output SQNR [dB]", float=None, quantized=24.9, drop=0.0032, ci_high=0.0041, unit="noise"
    )
    assert "accuracy - - noise 0.32% of the signal (at most 0.41%), 512 samples" in noise
    assert "sqnr 30 dB 29.5 dB drop 0.5 (0.4 to 0.6), 512 samples" in spoken(
        metric="sqnr", float=30.0, quantized=29.5, drop=0.5, ci_low=0.4, ci_high=0.6, unit="dB"
    )
    assert "top-1 98.44% 98.24% drop 0.20 points" in spoken(unit="")


def test_a_fallback_is_shown_once_and_in_bad_style() -> None:
    entry = {"node": "conv2", "runs_as": "FusedConv", "rule": "its output is not quantized"}
    note = "conv2 was planned as quantized and runs as FusedConv: its output is not quantized"
    found = lines(report(backend={**report().backend, "fallback": [entry]}, notes=(note,)))
    assert [line.style for line in found if "FusedConv" in line.text] == ["bad"]


def test_dynamic_ranges_are_not_said_to_come_from_samples() -> None:
    dynamic = replace(report().tensors[0], method="dynamic")
    assert "samples" not in lines(report(tensors=(dynamic,)))[0].text


def test_shipped_candidates_are_shown_even_when_they_come_last() -> None:
    one = report().candidates[1]
    many = (*(replace(one, reason=f"no {i}") for i in range(9)), replace(one, shipped=True, reason="the only one left"))
    text = summary(report(candidates=many))
    assert "no 4" in text and "no 5" not in text
    assert "shipped: the only one left" in text


def test_a_single_candidate_needs_no_table_and_verbose_shows_everything() -> None:
    assert "tried" not in summary(report(candidates=report().candidates[:1]))
    assert "kept float by --keep-float 'head' (e.g. head)" in summary(report(), shown=100)
