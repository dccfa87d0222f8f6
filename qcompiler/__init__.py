"""qcompiler: compiles float ONNX models to quantized ones that the target's own runtime accepts."""

from qcompiler._version import __version__

__all__ = ["__version__"]
