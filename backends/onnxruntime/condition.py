"""The rewrites that shape a float graph so that ONNX Runtime computes more of it in integers, or computes it faster."""

from __future__ import annotations

from qcompiler.backends.base import Conditioning
from qcompiler.passes.condition.average_pool_to_conv import AveragePoolToConv
from qcompiler.passes.condition.expand_lrn import ExpandLrn
from qcompiler.passes.condition.focus_to_space_to_depth import FocusToSpaceToDepth
from qcompiler.passes.condition.integer_hard_activations import IntegerHardActivations
from qcompiler.passes.condition.merge_groups import MergeGroups
from qcompiler.passes.condition.pad_stem_channels import PadStemChannels
from qcompiler.passes.condition.relu_before_concat import ReluBeforeConcat
from qcompiler.passes.condition.resize_to_concat import ResizeToConcat
from qcompiler.passes.condition.scale_shift_to_conv import ScaleShiftToConv
from qcompiler.passes.condition.shuffle_to_gather import ShuffleToGather
from qcompiler.passes.condition.space_to_depth_stem import SpaceToDepthStem
from qcompiler.passes.condition.strided_shortcut import StridedShortcut
from qcompiler.quant import Encoding, QSpec, Site
from qcompiler.targets import TargetSpec


def condition(keep_float: tuple[str, ...], spec: TargetSpec, stored: QSpec) -> Conditioning:
    """All rewrites for int8, in order; `stored` is the type of activations."""
    given: dict[Site, Encoding] = {}
    aliases: dict[str, str] = {}
    passes = (
        ReluBeforeConcat(spec, stored, keep_float, aliases),
        IntegerHardActivations(spec, stored, keep_float, given),
        AveragePoolToConv(spec, stored, keep_float, given, aliases),
        ScaleShiftToConv(spec, stored, keep_float),
        ShuffleToGather(spec, stored, keep_float),
        StridedShortcut(spec, stored, keep_float, aliases),
        ResizeToConcat(spec, stored, keep_float, aliases),
        ExpandLrn(),
        FocusToSpaceToDepth(aliases),
        MergeGroups(spec, keep_float, aliases),
        SpaceToDepthStem(spec, keep_float, aliases),
        PadStemChannels(spec, keep_float, aliases),
    )
    return Conditioning(passes, given, aliases)
