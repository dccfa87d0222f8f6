"""Grids, observers, ranges and error measures: NumPy only, no graph."""

from qcompiler.numerics.affine import choose_qparams, dequantize, fake_quantize, quantize
from qcompiler.numerics.error_measures import SqnrMeter
from qcompiler.numerics.histogram import Histogram
from qcompiler.numerics.noise import expected_error
from qcompiler.numerics.observers import ChannelAbsMax, ChannelRange, Observer
from qcompiler.numerics.ranges import METHODS, RangeMethod
from qcompiler.numerics.weights import channel_range, mse_clip

__all__ = [
    "METHODS",
    "ChannelAbsMax",
    "ChannelRange",
    "Histogram",
    "Observer",
    "RangeMethod",
    "SqnrMeter",
    "channel_range",
    "choose_qparams",
    "dequantize",
    "expected_error",
    "fake_quantize",
    "mse_clip",
    "quantize",
]
