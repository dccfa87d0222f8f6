"""A report made by hand: what a compile of a small network would say."""

from __future__ import annotations

from typing import Any

from qcompiler.report import (
    Accuracy,
    Artifact,
    CandidateLine,
    Latency,
    NodeLine,
    PassLine,
    Report,
    TensorLine,
)

CONV = "rules 1, 3: QLinearConv"
UINT8, INT8 = "uint8 asymmetric per tensor", "int8 symmetric per axis 0"


def report(**changes: Any) -> Report:
    """The report, with other values for some fields."""
    fields: dict[str, Any] = {
        "tool": {"name": "qcompiler", "version": "0.1.0"},
        "model": {"name": "net.onnx", "nodes": 9},
        "target": {"name": "onnxruntime", "variant": "vnni", "asked": "auto", "shipped": "int8"},
        "calibration": {"samples": 256, "method": "mse", "seconds": 1.5},
        "passes": (
            PassLine(
                "fold-batchnorm",
                1,
                0.01,
                ({"rule": "fold-batchnorm", "node": "bn2", "reason": "the result of Conv 'conv2' is used twice"},),
            ),
            PassLine("annotate", 2, 0.02, ({"rule": "annotate", "node": "mul", "reason": "no constant"},)),
        ),
        "nodes": (
            NodeLine("conv1", "Conv", "int8", "conv", CONV, ("x", "w1", "b1"), ("y1",)),
            NodeLine("conv2", "Conv", "int8", "conv", CONV, ("y1", "w2", ""), ("y2",)),
            NodeLine("bn2", "Mul", "float", "float", "factor 'g2' of Mul 'bn2' is not positive", ("y2", "g2"), ("y3",)),
            NodeLine("bn3", "Mul", "float", "float", "factor 'g3' of Mul 'bn3' is not positive", ("y3", "g3"), ("y4",)),
            NodeLine(
                "soft", "Softmax", "float", "float", "QLinearSoftmax is 6 times slower than float", ("y4",), ("p",)
            ),
            NodeLine("shape", "Shape", "float", "float", "no rule of the target for Shape", ("y1",), ("s",)),
            NodeLine("cast", "Cast", "float", "float", "no rule of the target for Cast", ("s",), ("t",)),
            NodeLine("erf", "Erf", "float", "float", "there is no integer kernel", ("p",), ("e",)),
            NodeLine("lstm", "LSTM", "float", "float", "there is no static integer kernel", ("e",), ("l",)),
            NodeLine("head", "Gemm", "float", "float", "kept float by --keep-float 'head'", ("l",), ("logits",)),
        ),
        "tensors": (
            TensorLine("x", "x@conv1:0", UINT8, "mse", 0.02, 3, 40.5, "read by Conv conv1"),
            TensorLine("w1", "w1@conv1:1", INT8, "minmax", [0.001, 0.004], [0, 0], None, "weight of conv1"),
            TensorLine("y1", "y1", UINT8, "mse", 0.05, 128, 38.25, "result of Conv conv1"),
        ),
        "accuracy": Accuracy(
            "top-1",
            0.984375,
            0.982422,
            0.001953,
            -0.004,
            0.0098,
            512,
            "holds",
            {"logits": 34.25},
            "share",
            "exact, from discordant pairs",
            0.95,
            "1%",
            True,
            0.01,
        ),
        "latency": Latency(0.812, 0.311, 2.61, 0.03, 1),
        "size": {"float_bytes": 310736, "quantized_bytes": 93100},
        "backend": {"name": "onnxruntime", "version": "1.31.1", "integer_nodes": 3, "float_nodes": 8, "fallback": []},
        "candidates": (
            CandidateLine(
                "int8", "mse", 0.982, 0.001953, 34.25, 2.61, 93100, True, "shipped: the fastest (2.61 times)"
            ),
            CandidateLine("w8", "", 0.984, 0.0, 50.0, 0.93, 99100, False, "no faster than float (0.93 times)"),
        ),
        "notes": ("opset 17 converted to 21",),
        "artifacts": (Artifact("model.onnx", 120100, "0" * 64), Artifact("plan.json", 2048, "1" * 64)),
    }
    return Report(**{**fields, **changes})
