"""Qualcomm Hexagon (HTP), compiled and emulated by ONNX Runtime's QNN execution provider."""

from qcompiler.backends.qnn.backend import backend

__all__ = ["backend"]
