"""The builder's listing, read; bounds of inputs; what is said of refusals."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
import pytest

from qcompiler import ir
from qcompiler.backends.tensorrt.build import Built
from qcompiler.backends.tensorrt.kernels import by_node, by_type, kernels
from qcompiler.backends.tensorrt.profile import BATCH, profile
from qcompiler.backends.tensorrt.refusals import said
from qcompiler.data import Sample
from qcompiler.errors import UsageError

VALUE = (
    "{{ Name: {name}, Dimensions: [1,64], Strides: [64,1], StrideOrder: [1,0], Datatype: {kind}, "
    "Format: (Linear) Row major linear format }}"
)


def kernel(name: str, kind: str, inputs: str, constants: str, outputs: str, nodes: str) -> str:
    parts = [
        ", ".join(VALUE.format(name=f"v{i}", kind=word) for i, word in enumerate(words.split()))
        for words in (inputs, constants, outputs)
    ]
    metadata = "".join(f"[ONNX Layer: {node}]" for node in nodes.split())
    values = f"Inputs: [{parts[0]}], Constants: [{parts[1]}], Outputs: [{parts[2]}]"
    return f"Name: {name}, LayerType: {kind}, {values}, TacticName: t, StreamId: 0, Metadata: {metadata}"


LISTING = "\n".join(
    [
        "Layers:",
        kernel("conv_myl0_1", "correlation", "Int8", "Int8 Float", "Float", "conv relu"),
        kernel("__myl_Mul_myl0_2", "kgen", "Float", "Half", "Int8", "conv next_quantize"),
        kernel("_gemm_mha_v2_myl0_3", "kgen", "FP8 FP8 FP8", "", "Half", "scores softmax values"),
        kernel("__myl_ReplCastMulCastFc_myl0_4", "runtime_fusion", "Half", "Int4 Half", "Half", "dq4 linear4"),
        kernel("__myl_CastMulCastFc_myl0_5", "runtime_fusion", "Half", "Int8 Half", "Half", "dq8 linear8"),
        kernel("__myl_CastMulCast_myl0_6", "kgen", "", "Int8 Half", "Half", "dq"),
        kernel("gemm_myl0_7", "gemm", "Half Half", "Float", "Half", "linear"),
        kernel("gemm4_myl0_8", "gemm", "FP4E2M1 FP8", "FP4E2M1 FP8", "Half", "linear_fp4"),
        kernel("__myl_Move_myl0_9", "kgen", "Half", "", "Half", ""),
        kernel("wait0", "wait", "", "", "", ""),
    ]
)


def test_types_of_nodes_and_kernels() -> None:
    found = kernels(LISTING)
    assert len(found) == 9
    types = by_node(found)
    wanted = {
        "conv": "int8", "relu": "int8", "next_quantize": "fp32", "scores": "fp8", "values": "fp8", "linear4": "w4",
        "linear8": "w8", "linear": "fp16", "linear_fp4": "nvfp4",
    }  # fmt: skip
    assert {name: types[name] for name in wanted} == wanted
    assert [k.nodes for k in found if k.unpacks_weights] == [("dq",)]
    assert [k.name for k in found if k.moves] == ["__myl_Move_myl0_9"]
    assert by_type(found) == {"fp16": 3, "fp8": 1, "fp32": 1, "int8": 1, "nvfp4": 1, "w4": 1, "w8": 1}
    assert kernels("") == []


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ("... Assertion failed: shiftIsAllZeros(zeroPoint): Non-zero zero point", "zero points are 0"),
        ("API Usage Error (b_dq: input has type Int32 but must have type FP8", "b_dq: a bias stays float"),
        ("Quantized constant (table) is only allowed before DQ or PLUGIN_V2", "table: nothing stands between"),
        ("Cannot compile operation 'fc' for Turing (SM75): FP32 GEMM is not supported", "fc: Turing has no GEMM"),
        ("contains HW-specific datatypes: fp8_e4m3, int4", "the GPU lacks a type"),
        ("something new", "refuses the model at build: something new"),
    ],
)
def test_refusals_in_our_words(error: str, words: str) -> None:
    assert words in said(Built(False, error, phase="build"))


def test_the_node_of_a_parser_error() -> None:
    built = Built(False, "Found unsupported input type of UINT8", node="w_dq", op="DequantizeLinear", phase="parse")
    assert said(built).startswith("DequantizeLinear 'w_dq': weights are int8")


# ---- bounds
def model(shape: str = "[batch, 3, side]") -> ir.Model:
    text = f'<ir_version: 10, opset_import: ["" : 21]> g (float{shape} x) => (float{shape} y) {{ y = Relu(x) }}'
    return ir.Model.from_proto(onnx.parser.parse_model(text))


class Samples:
    """A source of shapes."""

    def __init__(self, *shapes: tuple[int, ...]) -> None:
        self.shapes = shapes

    def __iter__(self) -> Iterator[Sample]:
        return iter([Sample({"x": np.zeros(shape, np.float32)}, None, str(i)) for i, shape in enumerate(self.shapes)])


def test_bounds_as_given() -> None:
    found, notes = profile(model(), {"x": "1x3x8:2x3x16:4x3x32"}, None)
    assert found == {"x": ((1, 3, 8), (2, 3, 16), (4, 3, 32))} and notes == []
    found, notes = profile(model(), {"batch": "1:2:4", "side": "8:8:8"}, None)
    assert found == {"x": ((1, 3, 8), (2, 3, 8), (4, 3, 8))} and notes == []
    found, _ = profile(model(), {"batch": "1:2:4", "side": "0:8:8"}, None)
    assert found["x"][0] == (1, 3, 0)  # an empty cache; the builder takes it


def test_bounds_from_samples_and_of_batches() -> None:
    found, notes = profile(model(), {}, Samples((1, 3, 20), (1, 3, 10), (1, 3, 40)))  # type: ignore[arg-type]
    assert found == {"x": ((1, 3, 10), (1, 3, 20), (BATCH, 3, 40))}
    assert notes == [f"nobody bounds batch from 1 to {BATCH}, side from 10 to 40: built for that; give --shape"]
    assert profile(model("[2, 3]"), {}, None) == ({}, [])


@pytest.mark.parametrize(
    ("ranges", "words"),
    [
        ({"z": "1:2:3"}, "bounds no dynamic input"),
        ({"x": "1x3:1x3:1x3"}, "has 3 dimensions"),
        ({"batch": "1x2:1x2:1x2"}, "has numbers for bounds"),
        ({"batch": "1:2"}, "is not min:opt:max"),
        ({"batch": "1:a:2"}, "is not min:opt:max"),
        ({"batch": "4:2:8"}, "does not ascend"),
        ({"batch": "-1:2:8"}, "does not ascend"),
    ],
)
def test_bounds_that_are_none(ranges: dict[str, str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        profile(model(), ranges, None)
