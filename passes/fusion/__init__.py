"""Graph rewrites that keep the numbers: folding into weights, and recognition of operators that were written out."""

from __future__ import annotations

from qcompiler.passes.fusion.clip_to_relu import ClipToRelu
from qcompiler.passes.fusion.fold_norm_affine import FoldNormAffine
from qcompiler.passes.fusion.linear_rules import LINEAR_RULES
from qcompiler.passes.fusion.merge_axes import MergeAxes
from qcompiler.passes.fusion.merge_clips import MergeClips
from qcompiler.passes.fusion.merge_reshapes import MergeReshapes
from qcompiler.passes.fusion.merge_transposes import MergeTransposes
from qcompiler.passes.fusion.min_max_to_clip import MinMaxToClip
from qcompiler.passes.fusion.recognise_gelu import RecogniseGelu
from qcompiler.passes.fusion.recognise_hardsigmoid import RecogniseHardsigmoid
from qcompiler.passes.fusion.recognise_hardswish import RecogniseHardswish
from qcompiler.passes.fusion.recognise_l2norm import RecogniseL2norm
from qcompiler.passes.fusion.recognise_layernorm import RecogniseLayernorm
from qcompiler.passes.fusion.recognise_logsoftmax import RecogniseLogsoftmax
from qcompiler.passes.fusion.recognise_rmsnorm import RecogniseRmsnorm
from qcompiler.passes.fusion.recognise_sigmoid import RecogniseSigmoid
from qcompiler.passes.fusion.recognise_silu import RecogniseSilu
from qcompiler.passes.fusion.recognise_softmax import RecogniseSoftmax
from qcompiler.passes.fusion.recognise_swish import RecogniseSwish
from qcompiler.passes.fusion.simplify_powers import SimplifyPowers
from qcompiler.passes.fusion.transpose_to_reshape import TransposeToReshape
from qcompiler.rewrite import Rule

__all__ = ["LAYOUT_RULES", "LINEAR_RULES", "RECOGNISER_RULES", "fusion_rules"]

LAYOUT_RULES: tuple[Rule, ...] = (MergeTransposes(), TransposeToReshape(), MergeReshapes(), MergeAxes())

# each rule may rely on those before it: bounds and powers in one form, HardSigmoid before HardSwish, norms before gamma
RECOGNISER_RULES: tuple[Rule, ...] = (
    MinMaxToClip(),
    MergeClips(),
    SimplifyPowers(),
    RecogniseSigmoid(),
    RecogniseSilu(),
    RecogniseSwish(),
    RecogniseHardsigmoid(),
    RecogniseHardswish(),
    RecogniseGelu(),
    RecogniseLayernorm(),
    RecogniseRmsnorm(),
    FoldNormAffine(),
    RecogniseSoftmax(),
    RecogniseLogsoftmax(),
    RecogniseL2norm(),
    ClipToRelu(),
)


def fusion_rules() -> tuple[Rule, ...]:
    """Every fusion, in the order in which `Pipeline.fixpoint` should repeat them.

    Written-out operators are recognised before the linear folds run, so that a scale or shift that belongs to one of
    them (the 3 of a HardSwish, the gamma of a norm) is not taken into a convolution first.
    """
    return (*LAYOUT_RULES, *RECOGNISER_RULES, *LINEAR_RULES)
