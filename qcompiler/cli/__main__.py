"""`python -m qcompiler.cli` is `qcompile`."""

from qcompiler.cli.main import main

if __name__ == "__main__":
    main()
