"""ONNX Runtime on the CPU."""

from qcompiler.backends.onnxruntime.backend import BACKEND

__all__ = ["BACKEND"]
