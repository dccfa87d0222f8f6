"""Evaluates a saved package in NumPy."""

from qcompiler.backends.coreml.evaluate.package import Package
from qcompiler.backends.coreml.evaluate.table import COMPUTES

__all__ = ["COMPUTES", "Package"]
