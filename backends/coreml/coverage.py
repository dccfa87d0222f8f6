"""The table of ONNX operators that Core ML gets, as the documentation has it, beside onnx2coreml.

    python -m qcompiler.backends.coreml.coverage

What onnx2coreml 1.0 takes is what its README lists; it was not run here.
"""

from __future__ import annotations

from collections.abc import Iterator

from qcompiler.backends.coreml.lower import FAMILIES, TABLE, Row

PEER = frozenset(
    {
        "Add", "Sub", "Mul", "Div", "Pow", "Sqrt", "Exp", "Log", "Abs", "Erf", "Reciprocal", "Neg", "Floor",
        "Ceil", "Round", "Sign", "Sin", "Cos", "Tan", "Asin", "Acos", "Atan", "Sinh", "Cosh", "Atanh", "Min",
        "Max", "Clip", "Mod", "Equal", "Greater", "Less", "GreaterOrEqual", "LessOrEqual", "And", "Or", "Xor",
        "Not", "IsNaN", "Where", "Relu", "LeakyRelu", "PRelu", "Sigmoid", "Tanh", "Gelu", "Softmax", "LogSoftmax",
        "Softplus", "Elu", "HardSigmoid", "HardSwish", "Conv", "ConvTranspose", "MaxPool", "AveragePool",
        "GlobalAveragePool", "GlobalMaxPool", "BatchNormalization", "LayerNormalization", "InstanceNormalization",
        "GroupNormalization", "MatMul", "Gemm", "Inverse", "Reshape", "Transpose", "Flatten", "Squeeze",
        "Unsqueeze", "Concat", "Split", "Pad", "Cast", "Identity", "DepthToSpace", "GridSample", "Resize",
        "Upsample", "Gather", "GatherND", "GatherElements", "ScatterND", "ScatterElements", "NonZero", "Slice",
        "Expand", "Tile", "Shape", "ConstantOfShape", "ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin",
        "ReduceProd", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare", "ArgMax",
        "ArgMin", "TopK", "LSTM",
    }
)  # fmt: skip
"""ONNX operators in the README of onnx2coreml 1.0; `Inverse` is of com.microsoft."""


def lines() -> Iterator[str]:
    """The rows in Markdown, by family and name."""
    yield "| operator | in MIL | refused | onnx2coreml |"
    yield "|---|---|---|---|"
    for family, module in FAMILIES.items():
        yield f"| **{family}** | | | |"
        rows = [row for row in TABLE.values() if row.lower.__module__ == module.__name__]
        for row in sorted(rows, key=lambda row: (row.domain, row.op)):
            name = f"{row.op} ({row.domain})" if row.domain else row.op
            yield f"| {name} | {row.to} | {row.limits} | {'yes' if both(row) else ''} |"


def both(row: Row) -> bool:
    """Whether onnx2coreml has the operator, too."""
    return not row.domain and row.op in PEER


def summary() -> str:
    """The counts in a sentence."""
    standard = {op for domain, op in TABLE if not domain}
    only = ", ".join(sorted(PEER - standard))
    return (
        f"{len(TABLE)} operators, {len(standard)} of them of the ONNX standard. onnx2coreml 1.0 lists {len(PEER)}, "
        f"of which {len(PEER & standard)} are here, too; {only} is not."
    )


def main() -> None:
    """Prints the sentence and the table."""
    print("\n".join([summary(), "", *lines()]))


if __name__ == "__main__":
    main()
