"""Gives the weights of a draft that are stored in blocks their codes, by data where there is any.

rtn, mse, hqq    from the weights alone
awq              inputs rescaled (`scale_inputs`), then mse
gptq             second moments of the inputs, no rescaling
auto             awq, then gptq; hqq without samples
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from qcompiler.analysis.moments import collect_moments
from qcompiler.data import Sample
from qcompiler.passes.condition.scale_inputs import ScaleInputs
from qcompiler.passes.plan.encode_blocks import EncodeBlocks, blocked
from qcompiler.pipeline import Instrument, Pipeline, Trace
from qcompiler.quant import QuantPlan
from qcompiler.search.candidates import Draft

BY_DATA = ("auto", "gptq", "awq")
ROUNDING = {"awq": "mse"}


def with_codes(
    draft: Draft,
    source: Iterable[Sample] | None,
    method: str,
    memory: int,
    tell: Callable[[str, int, int | None], None],
    instruments: tuple[Instrument, ...] = (),
) -> Draft:
    """The draft with encodings for its weights in blocks; itself where it has none.

    Args:
        draft: of any precision.
        source: calibration samples; without them methods that need any fall back to mse, `auto` to hqq.
        method: as in the recipe.
        memory: bytes that observed values may take.
        tell: told the stage, how much is done, and how much there is.
        instruments: called after each pass.

    Raises:
        DataError: an input holds NaN or infinity.
    """
    sites = blocked(draft.plan)
    if not sites:
        return draft
    moments: dict[str, npt.NDArray[np.float64]] = {}
    if source is not None and method in BY_DATA:
        moments = collect_moments(
            draft.model, source, widths(draft), memory_budget=memory,
            progress=lambda done, total: tell("calibrate", done, total),
        )  # fmt: skip
    tell("round weights", 0, None)
    pipeline = Pipeline(Trace(list(draft.trace.records)), instruments)
    model = draft.model.copy()
    plan = draft.plan
    if moments and method in ("auto", "awq") and pipeline.graph(model, [ScaleInputs(plan, moments)]):
        plan = pipeline.plan(model, QuantPlan(), [draft.annotate])
    step = EncodeBlocks(ROUNDING.get(method, method), moments)
    plan = pipeline.plan(model, plan, [step])
    return replace(draft, model=model, plan=plan, trace=pipeline.trace)


def widths(draft: Draft) -> dict[str, int]:
    """The values that layers with weights in blocks read, and the length of what is summed over."""
    nodes = {node.name: node for node in draft.model.nodes}
    found: dict[str, int] = {}
    for site in blocked(draft.plan):
        node, choice = nodes[site.consumer], draft.plan.sites[site].choice
        if node.op != "Gather" and choice is not None:
            found[node.inputs[0].name] = int(node.inputs[1].shape[choice.granularity.axis])  # type: ignore[union-attr]
    return found
