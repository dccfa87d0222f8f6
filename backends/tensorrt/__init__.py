"""TensorRT: explicitly quantized, strongly typed ONNX, proved by the TensorRT-RTX builder."""

from qcompiler.backends.tensorrt.backend import backend

__all__ = ["backend"]
