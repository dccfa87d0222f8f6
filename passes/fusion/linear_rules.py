"""The rules about linear operators, in the order in which they are applied; repeat until none fires.

They belong behind the rules that recognise an operator in its parts: Clip(Add(Conv(x), 3), 0, 6) / 6 is a HardSigmoid
as long as the 3 has not gone into the bias.
"""

from __future__ import annotations

from typing import Final

from qcompiler.passes.fusion.decompose_batchnorm import DecomposeBatchnorm
from qcompiler.passes.fusion.fold_batchnorm import FoldBatchnorm
from qcompiler.passes.fusion.fold_pad import FoldPad
from qcompiler.passes.fusion.fold_scale import FoldScale
from qcompiler.passes.fusion.fold_scale_forward import FoldScaleForward
from qcompiler.passes.fusion.fold_scale_through_shift import FoldScaleThroughShift
from qcompiler.passes.fusion.fold_shift import FoldShift
from qcompiler.passes.fusion.fold_shift_across_add import FoldShiftAcrossAdd
from qcompiler.passes.fusion.fold_shift_forward import FoldShiftForward
from qcompiler.passes.fusion.matmul_add_to_gemm import MatmulAddToGemm
from qcompiler.passes.fusion.merge_branches import MergeBranches
from qcompiler.passes.fusion.merge_constants import MergeConstants
from qcompiler.passes.fusion.normalise_gemm import NormaliseGemm
from qcompiler.rewrite import Rule

LINEAR_RULES: Final[tuple[Rule, ...]] = (
    MatmulAddToGemm(),
    NormaliseGemm(),
    FoldPad(),
    FoldScale(),
    FoldShift(),
    FoldBatchnorm(),
    DecomposeBatchnorm(),
    MergeConstants(),
    FoldShiftAcrossAdd(),
    MergeBranches(),
    # the term first: where it can go, the factor has the linear operator right behind it
    FoldShiftForward(),
    FoldScaleForward(),
    FoldScaleThroughShift(),
)
