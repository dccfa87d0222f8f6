"""The table of ONNX operators that Core ML gets, as the documentation has it.

python -m qcompiler.backends.coreml.coverage
"""

from __future__ import annotations

from collections.abc import Iterator

from qcompiler.backends.coreml.lower import FAMILIES, TABLE


def lines() -> Iterator[str]:
    """The rows in Markdown, by family and name."""
    yield "| operator | in MIL | refused |"
    yield "|---|---|---|"
    for family, module in FAMILIES.items():
        yield f"| **{family}** | | |"
        rows = [row for row in TABLE.values() if row.lower.__module__ == module.__name__]
        for row in sorted(rows, key=lambda row: (row.domain, row.op)):
            name = f"{row.op} ({row.domain})" if row.domain else row.op
            yield f"| {name} | {row.to} | {row.limits} |"


def main() -> None:
    """Prints the table."""
    print("\n".join(lines()))


if __name__ == "__main__":
    main()
