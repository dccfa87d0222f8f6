"""The backends of the compiler; shipped and imported as `qcompiler.backends`."""

if __name__ != "qcompiler.backends":
    raise ImportError(f"import qcompiler.backends, not {__name__}")
