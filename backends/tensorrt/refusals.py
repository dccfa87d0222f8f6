"""The builder's refusals, in our words: which rule was broken, and what to do. Patterns are its exact words (section 1
of the fact sheet); the first that fits counts."""

from __future__ import annotations

import re
from dataclasses import dataclass

from qcompiler.backends.tensorrt.build import Built


@dataclass(frozen=True)
class Refusal:
    """One kind of refusal.

    Attributes:
        words: a pattern in the builder's message; a group `node` names the node.
        rule: what TensorRT wants.
        remedy: what to do.
    """

    words: str
    rule: str
    remedy: str


MOST = 300
"""Characters of the builder's words that are repeated."""

REFUSALS = (
    Refusal(r"shiftIsAllZeros", "zero points are 0: quantization is symmetric", "quantize with --target tensorrt"),
    Refusal(r"unsupported input type of UINT8", "weights are int8, not uint8", "quantize with --target tensorrt"),
    Refusal(
        r"\((?P<node>[^:()]*): input has type Int32 but must have type", "a bias stays float; int32 behind "
        "DequantizeLinear is refused", "leave the bias out of quantization",
    ),
    Refusal(r"unsupported datatype \((?:4|5)\)", "there is no 16-bit integer type", "use int8 or float16"),
    Refusal(
        r"Quantized constant \((?P<node>[^)]*)\) is only allowed before DQ", "nothing stands between a quantized "
        "constant and its DequantizeLinear", "move Gather, Transpose or Reshape behind DequantizeLinear",
    ),
    Refusal(
        r"Cannot compile operation '(?P<node>[^']*)' for Turing.*FP32 GEMM", "Turing has no GEMM in float32",
        "use precision fp16 or int8, which make the rest float16",
    ),
    Refusal(
        r"HW-specific datatypes: (?P<node>[\w, ]*)", "the GPU lacks a type of the model",
        "choose a later variant, or another precision",
    ),
    Refusal(
        r"Scale coefficients must all be positive", "scales are positive floats", "quantize with --target tensorrt"
    ),
    Refusal(
        r"opndA->type\(\) == opndB->type\(\)", "INT4 weights take float16 activations, no FP8 ones",
        "keep the activation float",
    ),
    Refusal(r"no optimization profile", "dynamic inputs have bounds", "give --shape NAME=min:opt:max"),
    Refusal(
        r"must be of same type", "operands have one type: the graph is strongly typed", "report this as a fault",
    ),
    Refusal(
        r"cannot be imported into TensorRT|Failed to import initializer",
        "weights are of a type that TensorRT has, and their file lies beside the model",
        "keep model.onnx.data beside model.onnx",
    ),
    Refusal(
        r"No importer registered for op|Plugin not found|no plugin", "TensorRT lacks the operator",
        "replace it, or give TensorRT a plugin for it",
    ),
)  # fmt: skip


def said(built: Built) -> str:
    """One sentence on a failed build: where, the rule, the remedy, and the builder's own words."""
    words = " ".join(built.error.split())
    short = words if len(words) <= MOST else words[:MOST] + " ..."
    where = f"{built.op} {built.node!r}: " if built.node else ""
    for refusal in REFUSALS:
        match = re.search(refusal.words, words)
        if match is not None:
            named = match.groupdict().get("node")
            where = where or (f"{named}: " if named else "")
            return f"{where}{refusal.rule}; {refusal.remedy} (TensorRT: {short})"
    return f"{where}TensorRT refuses the model at {built.phase}: {short}"
