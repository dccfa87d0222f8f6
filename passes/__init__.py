"""The passes of the compiler; shipped and imported as `qcompiler.passes`."""

if __name__ != "qcompiler.passes":
    raise ImportError(f"import qcompiler.passes, not {__name__}")
