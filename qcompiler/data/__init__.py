"""Calibration and evaluation data: one call, `open_source`, for every form in which a user can have it.

Knows no graph: the model's inputs are handed in as `InputInfo` values. Samples are streamed and checked one by one.
"""

from qcompiler.data.open import Data, open_source
from qcompiler.data.sample import InputInfo, Sample, Source

__all__ = ["Data", "InputInfo", "Sample", "Source", "open_source"]
