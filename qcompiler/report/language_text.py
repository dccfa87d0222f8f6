"""The rows of the short table that only language models have: see `language_facts`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

STEPS = (("prompt", "tokens/s, prompt"), ("step", "tokens/s, one by one"))


def language_rows(facts: Mapping[str, Any]) -> list[list[str]]:
    """Divergence from float, and tokens a second where they were measured; none for other models."""
    if "kl" not in facts:
        return []
    words = f"of the next token, {100 * facts['agreement']:.1f}% of the tokens equal, {facts['positions']} positions"
    rows = [["KL to float", "", f"{facts['kl']:.3g}", words]]
    for key, title in STEPS:
        before, after = (facts.get(f"{name}_{key}_tokens_per_second") for name in ("float", "quantized"))
        if before and after:
            rows.append([title, f"{before:.0f}", f"{after:.0f}", f"{after / before:.2f}x as many"])
    return rows
