"""ONNX Runtime on the CPU."""

from qcompiler.backends.onnxruntime.backend import backend

__all__ = ["backend"]
