"""ONNX Runtime on the CPU."""

from qcompiler.backends.onnxruntime.backend import BACKEND, BACKENDS

__all__ = ["BACKEND", "BACKENDS"]
