"""Passes that bring any ONNX model into the one form that all others rely on.

    pipeline.graph(model, entry_passes(shapes))
    pipeline.fixpoint(model, simplify_passes())

`prepare` does both. What they establish: unique names in all scopes; no Constant nodes, constant branches, dead code,
duplicates or nodes without effect; inputs are what a user feeds; ONNX opset 21 or as near as possible; shapes as far as
they can be known.
"""

from __future__ import annotations

from qcompiler import ir
from qcompiler.passes.prepare.convert_opset import ConvertOpset
from qcompiler.passes.prepare.eliminate_dead import EliminateDead
from qcompiler.passes.prepare.finite_masks import FiniteMasks
from qcompiler.passes.prepare.fold_constants import FoldConstants
from qcompiler.passes.prepare.fold_shapes import FoldShapes
from qcompiler.passes.prepare.gather_nd_to_gather import GatherNDToGather
from qcompiler.passes.prepare.infer_shapes import InferShapes
from qcompiler.passes.prepare.inline_if import InlineIf
from qcompiler.passes.prepare.lift_constants import LiftConstants
from qcompiler.passes.prepare.merge_duplicates import MergeDuplicates
from qcompiler.passes.prepare.name_everything import NameEverything
from qcompiler.passes.prepare.override_shapes import OverrideShapes, parse_shape
from qcompiler.passes.prepare.reduce_mean_to_pool import ReduceMeanToPool
from qcompiler.passes.prepare.remove_identity import RemoveIdentity
from qcompiler.passes.prepare.scalar_range import ScalarRange
from qcompiler.passes.prepare.state_sizes import StateSizes
from qcompiler.passes.prepare.strip_input_initializers import StripInputInitializers
from qcompiler.passes.prepare.sum_to_add import SumToAdd
from qcompiler.passes.prepare.unroll import LOOPS, Unroll
from qcompiler.pipeline import GraphPass, Pipeline
from qcompiler.rewrite import Rule

Shapes = tuple[tuple[str, tuple[int, ...]], ...]

__all__ = [
    "LOOPS",
    "ConvertOpset",
    "EliminateDead",
    "FiniteMasks",
    "FoldConstants",
    "FoldShapes",
    "GatherNDToGather",
    "InferShapes",
    "InlineIf",
    "LiftConstants",
    "MergeDuplicates",
    "NameEverything",
    "OverrideShapes",
    "ReduceMeanToPool",
    "RemoveIdentity",
    "ScalarRange",
    "StateSizes",
    "StripInputInitializers",
    "SumToAdd",
    "Unroll",
    "entry_passes",
    "parse_shape",
    "prepare",
    "prepare_passes",
    "simplify_passes",
]


def entry_passes(shapes: Shapes = (), opset: int = 21) -> tuple[GraphPass | Rule, ...]:
    """What is done once, first of all; `shapes` as for `OverrideShapes`."""
    return (
        NameEverything(),
        StripInputInitializers(),
        LiftConstants(),
        EliminateDead(),
        StateSizes(),
        OverrideShapes(shapes),
        InferShapes(),
        ConvertOpset(opset),
    )


def simplify_passes(limit: int = 1 << 20) -> tuple[GraphPass | Rule, ...]:
    """What is repeated until nothing changes; `limit` as for `FoldConstants`."""
    return (
        InferShapes(notes=False),
        LiftConstants(),
        FoldShapes(),
        FoldConstants(limit),
        InlineIf(),
        RemoveIdentity(),
        MergeDuplicates(),
        EliminateDead(),
        SumToAdd(),
        GatherNDToGather(),
        ReduceMeanToPool(),
        ScalarRange(),
        FiniteMasks(),
    )


def prepare_passes(shapes: Shapes = ()) -> tuple[GraphPass | Rule, ...]:
    """The whole sequence once; `prepare` repeats its second part."""
    return (*entry_passes(shapes), *simplify_passes())


def prepare(pipeline: Pipeline, model: ir.Model, shapes: Shapes = (), *, unroll: bool = False) -> None:
    """Prepares the model in place.

    Args:
        pipeline: runs the passes.
        model: any.
        shapes: as for `OverrideShapes`.
        unroll: writes out the turns of Loop and Scan.

    Raises:
        UsageError: a shape override does not fit, see `OverrideShapes`.
    """
    pipeline.graph(model, entry_passes(shapes))
    pipeline.fixpoint(model, simplify_passes())
    if unroll and pipeline.graph(model, [Unroll()]):
        pipeline.fixpoint(model, simplify_passes())
