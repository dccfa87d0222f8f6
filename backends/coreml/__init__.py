"""Core ML: ONNX to .mlpackage by coremltools' model builder, checked without a Mac."""

from qcompiler.backends.coreml.backend import backend

__all__ = ["backend"]
