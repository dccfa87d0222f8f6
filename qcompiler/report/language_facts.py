"""The `language` key of the report: empty for models that are not judged by tokens."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from qcompiler import ir
from qcompiler.analysis import Runner, SessionConfig
from qcompiler.analysis.language import SAMPLES, divergence, speech
from qcompiler.analysis.measures_of_text import Divergence, Perplexity, Tokens
from qcompiler.analysis.session import config_of
from qcompiler.data import Sample
from qcompiler.report.build import finite
from qcompiler.search.judge import Outcome


def language_facts(
    original: ir.Model,
    shipped: ir.Model,
    outcome: Outcome,
    source: Iterable[Sample] | None,
    config: SessionConfig,
) -> dict[str, object]:
    """KL and agreement on the first samples, and tokens a second where the shipped model was timed.

    Raises:
        DataError: a model cannot run on a sample.
    """
    if outcome.spoken is not None:
        return facts_of(*outcome.spoken) if outcome.spoken else {}
    measure = None if outcome.evaluation is None else outcome.evaluation.measure
    if source is None or not isinstance(measure, Divergence | Perplexity | Tokens):
        return {}
    first = list(itertools.islice(iter(source), SAMPLES))
    reference, other = Runner(original, config_of(original, config.threads)), Runner(shipped, config)
    found = divergence(reference, other, measure.output, first)
    if found is None:
        return {}
    facts = facts_of(*found, len(first))
    if outcome.timing is not None:
        for name, one in speech({"float": reference, "quantized": other}, measure.output, first[0]).items():
            facts[f"{name}_prompt_tokens_per_second"] = None if one.prompt is None else finite(one.prompt, 1)
            facts[f"{name}_step_tokens_per_second"] = None if one.step is None else finite(one.step, 1)
    return facts


def facts_of(kl: float, agreement: float, positions: int, samples: int) -> dict[str, object]:
    """How far the next tokens are from the float model's."""
    return {"kl": finite(kl, 6), "agreement": finite(agreement, 6), "positions": positions, "samples": samples}
