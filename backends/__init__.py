"""The backends of the compiler, by name; shipped and imported as `qcompiler.backends`."""

if __name__ != "qcompiler.backends":
    raise ImportError(f"import qcompiler.backends, not {__name__}")

from qcompiler.backends.registry import get, names

__all__ = ["get", "names"]
