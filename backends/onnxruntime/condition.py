"""The rewrites that shape a float graph so that ONNX Runtime computes more of it in integers, or computes it faster."""

from __future__ import annotations

from qcompiler.backends.base import Conditioning
from qcompiler.backends.onnxruntime.spec import SPEC, U8
from qcompiler.passes.condition.average_pool_to_conv import AveragePoolToConv
from qcompiler.passes.condition.integer_hard_activations import IntegerHardActivations
from qcompiler.passes.condition.pad_stem_channels import PadStemChannels
from qcompiler.passes.condition.shuffle_to_gather import ShuffleToGather
from qcompiler.passes.condition.space_to_depth_stem import SpaceToDepthStem


def condition(keep_float: tuple[str, ...]) -> Conditioning:
    """All rewrites for int8, in order."""
    aliases: dict[str, str] = {}
    hard = IntegerHardActivations(SPEC, U8, keep_float)
    passes = (
        hard,
        AveragePoolToConv(SPEC, U8, keep_float),
        ShuffleToGather(SPEC, U8, keep_float),
        SpaceToDepthStem(SPEC, keep_float, aliases),
        PadStemChannels(SPEC, keep_float, aliases),
    )
    return Conditioning(passes, hard.given, aliases)
