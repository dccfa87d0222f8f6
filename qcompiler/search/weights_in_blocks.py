"""Gives the weights of a draft that are stored in blocks or by palettes their codes, by data where there is any.

rtn, mse, hqq    from the weights alone
awq              inputs rescaled (`scale_inputs`), then mse
gptq             second moments of the inputs, no rescaling; layer after layer (`in_turn`)
auto             awq, then gptq; hqq without samples

Palettes are found by k-means, and with samples by k-means that counts inputs as they matter, then gptq.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt

from qcompiler import ir
from qcompiler.analysis.moments import collect_moments, collect_patch_moments
from qcompiler.data import Sample
from qcompiler.numerics.patches import Window
from qcompiler.passes.condition.scale_inputs import Known, ScaleInputs
from qcompiler.passes.plan.ada_round import window_of
from qcompiler.passes.plan.encode_blocks import EncodeBlocks, blocked
from qcompiler.passes.plan.encode_palettes import EncodePalettes, palettes
from qcompiler.pipeline import Instrument, Pipeline, PlanPass, Trace
from qcompiler.quant import QuantPlan
from qcompiler.search.candidates import Draft
from qcompiler.search.in_turn import EncodeInTurn, InFloat
from qcompiler.targets.spec import reduced_axis

BY_DATA = ("auto", "gptq", "awq")
SCALING = ("auto", "awq")
ROUNDING = {"awq": "mse", "gptq": "auto"}
"""What rounds, where it is not the method of that name."""


def with_codes(
    draft: Draft,
    source: Iterable[Sample] | None,
    method: str,
    memory: int,
    tell: Callable[[str, int, int | None], None],
    instruments: tuple[Instrument, ...] = (),
    *,
    apart: bool = False,
) -> Draft:
    """The draft with encodings for its weights in blocks and palettes; itself where it has none.

    Args:
        draft: of any precision.
        source: calibration samples; without them methods that need any fall back to mse, `auto` to hqq.
        method: as in the recipe.
        memory: bytes that observed values may take.
        tell: told the stage, how much is done, and how much there is.
        instruments: called after each pass.
        apart: each weight as if it were the only one that is rounded: no inputs are rescaled, nothing is made up for.

    Raises:
        DataError: an input holds NaN or infinity.
    """
    if not blocked(draft.plan) and not (palettes(draft.model, draft.plan) and source is not None):
        return draft
    pipeline = Pipeline(Trace(list(draft.trace.records)), instruments)
    model, plan = draft.model.copy(), draft.plan
    by_data = source is not None and method in BY_DATA
    step: PlanPass = EncodeBlocks("mse" if method == "awq" else method)
    if source is not None and by_data and blocked(plan):
        if method in SCALING and not apart:
            with TemporaryDirectory(prefix="qcompiler-") as folder:
                plan = rescaled(draft, model, pipeline, InFloat(draft.model, plan, source, Path(folder), tell))
        rounding = ROUNDING.get(method, "auto")
        step = EncodeInTurn(source, "gptq" if apart and rounding == "auto" else rounding, tell)
    tell("round weights", 0, None)
    moments: dict[str, npt.NDArray[np.float64]] = {}
    if source is not None and by_data:
        moments = collect_moments(draft.model, source, widths(draft), memory_budget=memory)
    patches = {} if source is None else collect_patch_moments(draft.model, source, windows(draft), memory)
    plan = pipeline.plan(model, plan, [step, EncodePalettes(moments, patches)])
    return replace(draft, model=model, plan=plan, trace=pipeline.trace)


def rescaled(
    draft: Draft, model: ir.Model, pipeline: Pipeline, moments: InFloat, known: Known | None = None
) -> QuantPlan:
    """Rescales what layers with weights in blocks read; the plan of the model as it is then, without codes.

    Args:
        draft: whose layers.
        model: a copy of the draft's, which is changed.
        pipeline: runs and records.
        moments: of the values that are read.
        known: factors of an earlier run; gets those of this one.
    """
    if not pipeline.graph(model, [ScaleInputs(draft.plan, moments, known)]):
        return draft.plan
    plan = pipeline.plan(model, QuantPlan(), [draft.annotate])
    return replace(plan, nodes={**plan.nodes, **draft.plan.nodes})


def widths(draft: Draft) -> dict[str, int]:
    """The values that layers with weights by palettes read, and the length of what is summed over."""
    nodes = {node.name: node for node in draft.model.nodes}
    found: dict[str, int] = {}
    for site in palettes(draft.model, draft.plan):
        node = nodes[site.consumer]
        if node.op != "Conv":
            found[node.inputs[0].name] = int(node.inputs[1].shape[reduced_axis(node)])
    return found


def windows(draft: Draft) -> dict[str, tuple[str, Window]]:
    """What convolutions with weights by palettes read, and how."""
    nodes = {node.name: node for node in draft.model.nodes}
    found = {}
    for site in palettes(draft.model, draft.plan):
        node = nodes[site.consumer]
        window = window_of(node) if node.op == "Conv" else None
        if window is not None:
            found[node.name] = (node.inputs[0].name, window)
    return found
