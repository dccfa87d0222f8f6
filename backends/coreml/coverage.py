"""The table of ONNX operators that Core ML gets, as the documentation has it, beside the peers.

python -m qcompiler.backends.coreml.coverage
"""

from __future__ import annotations

from collections.abc import Iterator

from qcompiler.backends.coreml.lower import FAMILIES, TABLE
from qcompiler.backends.coreml.peers import COREMLTOOLS_5, ONNX2COREML, PYTORCH


def lines() -> Iterator[str]:
    """The rows in Markdown, by family and name."""
    yield "| operator | in MIL | refused | onnx2coreml | coremltools 5 | PyTorch |"
    yield "|---|---|---|---|---|---|"
    for family, module in FAMILIES.items():
        yield f"| **{family}** | | | | | |"
        rows = [row for row in TABLE.values() if row.lower.__module__ == module.__name__]
        for row in sorted(rows, key=lambda row: (row.domain, row.op)):
            name = f"{row.op} ({row.domain})" if row.domain else row.op
            marks = ["yes" if not row.domain and row.op in peer else "" for peer in (ONNX2COREML, COREMLTOOLS_5)]
            torch = "" if row.domain else PYTORCH.get(row.op, "")
            yield f"| {name} | {row.to} | {row.limits} | {marks[0]} | {marks[1]} | {torch} |"


def summary() -> str:
    """The counts in sentences."""
    standard = {op for domain, op in TABLE if not domain}

    def shared(name: str, peer: frozenset[str]) -> str:
        only = ", ".join(sorted(peer - standard))
        return f"{name} has {len(peer)}, of which {len(peer & standard)} are here, too; not here: {only}."

    return (
        f"{len(TABLE)} operators, {len(standard)} of them of the ONNX standard. "
        f"{shared('onnx2coreml 1.0', ONNX2COREML)} {shared('coremltools 5', COREMLTOOLS_5)} "
        f"For {len(PYTORCH)} of them coremltools 9 has one operator of PyTorch that does the same."
    )


def main() -> None:
    """Prints the sentence and the table."""
    print("\n".join([summary(), "", *lines()]))


if __name__ == "__main__":
    main()
