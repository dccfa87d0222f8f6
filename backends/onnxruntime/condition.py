"""The rewrites that shape a float graph so that ONNX Runtime computes more of it in integers, or computes it faster."""

from __future__ import annotations

from qcompiler.backends.base import Conditioning
from qcompiler.backends.onnxruntime.spec import SPEC, U8
from qcompiler.passes.condition.average_pool_to_conv import AveragePoolToConv
from qcompiler.passes.condition.focus_to_space_to_depth import FocusToSpaceToDepth
from qcompiler.passes.condition.integer_hard_activations import IntegerHardActivations
from qcompiler.passes.condition.pad_stem_channels import PadStemChannels
from qcompiler.passes.condition.relu_before_concat import ReluBeforeConcat
from qcompiler.passes.condition.resize_to_concat import ResizeToConcat
from qcompiler.passes.condition.shuffle_to_gather import ShuffleToGather
from qcompiler.passes.condition.space_to_depth_stem import SpaceToDepthStem
from qcompiler.passes.condition.strided_shortcut import StridedShortcut
from qcompiler.quant import Encoding, Site


def condition(keep_float: tuple[str, ...]) -> Conditioning:
    """All rewrites for int8, in order."""
    given: dict[Site, Encoding] = {}
    aliases: dict[str, str] = {}
    passes = (
        ReluBeforeConcat(SPEC, U8, keep_float, aliases),
        IntegerHardActivations(SPEC, U8, keep_float, given),
        AveragePoolToConv(SPEC, U8, keep_float, given, aliases),
        ShuffleToGather(SPEC, U8, keep_float),
        StridedShortcut(SPEC, U8, keep_float, aliases),
        ResizeToConcat(SPEC, U8, keep_float, aliases),
        FocusToSpaceToDepth(aliases),
        SpaceToDepthStem(SPEC, keep_float, aliases),
        PadStemChannels(SPEC, keep_float, aliases),
    )
    return Conditioning(passes, given, aliases)
