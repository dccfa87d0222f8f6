"""Functions disappear into the graph, or the model is refused."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
from onnx import ModelProto, parser

from qcompiler.errors import ModelError
from qcompiler.ir.functions import inline_functions
from tests.ir.models import FUNCTIONS

RELU = '<domain: "f", opset_import: ["" : 21]> go (a) => (b) { b = Relu (a) }'


def model(functions: str, body: str = "y = f.go (x)", opsets: str = '"" : 21, "f" : 1') -> ModelProto:
    """A model on float[3] with a body and functions."""
    header = f"<ir_version: 10, opset_import: [{opsets}]>"
    return parser.parse_model(f"{header} g (float[3] x) => (float[3] y) {{ {body} }}\n{functions}")


def inlined(proto: ModelProto) -> list[str]:
    """Operator types after inlining, with domain."""
    inline_functions(proto)
    assert not proto.functions
    return [f"{n.domain}.{n.op_type}" if n.domain else n.op_type for n in proto.graph.node]


def test_nested_functions_bring_their_domains() -> None:
    proto = parser.parse_model(FUNCTIONS)
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    wanted = ort.InferenceSession(proto_with_domain(proto)).run(None, {"x": x})[0]
    assert inlined(proto) == ["Add", "com.microsoft.Gelu", "Add", "Add"]
    assert [(o.domain, o.version) for o in proto.opset_import] == [("", 21), ("local", 1), ("com.microsoft", 1)]
    got = ort.InferenceSession(proto.SerializeToString()).run(None, {"x": x})[0]
    np.testing.assert_array_equal(got, wanted)
    assert [t.name for t in proto.graph.initializer] == ["w"] and len(proto.graph.initializer[0].float_data) == 4


def proto_with_domain(proto: ModelProto) -> bytes:
    """The bytes of the model with com.microsoft declared, which ONNX Runtime needs."""
    copy = ModelProto()
    copy.CopyFrom(proto)
    copy.opset_import.add(domain="com.microsoft", version=1)
    return copy.SerializeToString()


def test_attributes_and_branches() -> None:
    leaky = """<domain: "f", opset_import: ["" : 21]>
        go <slope: float = 0.5> (a) => (b) { b = LeakyRelu <alpha: float = @slope> (a) }"""
    proto = model(
        leaky,
        """c = Constant <value = bool {1}> ()
        y = If (c) <then_branch = t () => (float[3] p) { p = f.go <slope = 0.25> (x) },
                    else_branch = e () => (float[3] q) { q = f.go (x) }>""",
    )
    assert inlined(proto) == ["Constant", "If"]
    branches = {a.name: a.g.node[0] for a in proto.graph.node[1].attribute}
    assert {name: (n.op_type, n.attribute[0].f) for name, n in branches.items()} == {
        "then_branch": ("LeakyRelu", 0.25), "else_branch": ("LeakyRelu", 0.5)
    }  # fmt: skip


def test_another_opset_with_the_same_operators_needs_no_conversion() -> None:
    assert inlined(model(RELU.replace("21", "18"))) == ["Relu"]


def test_another_opset_with_other_operators_is_converted() -> None:
    softmax = '<domain: "f", opset_import: ["" : 11]> go (a) => (b) { b = Softmax <axis = 0> (a) }'
    proto = model(softmax)
    assert "Softmax" in inlined(proto)
    x = np.array([1, 2, 4], np.float32)
    got = ort.InferenceSession(proto.SerializeToString()).run(None, {"x": x})[0]
    np.testing.assert_allclose(got, np.exp(x) / np.exp(x).sum(), rtol=1e-6)


def test_functions_that_nobody_calls() -> None:
    assert inlined(model(RELU, "y = Neg (x)")) == ["Neg"]


@pytest.mark.parametrize(
    ("functions", "body", "opsets", "message"),
    [
        (
            '<domain: "f", opset_import: ["" : 21, "f" : 1]> go (a) => (b) { b = f.on (a) }\n'
            '<domain: "f", opset_import: ["" : 21, "f" : 1]> on (a) => (b) { c = Relu (a) b = f.go (c) }',
            "y = f.go (x)", '"" : 21, "f" : 1',
            "go -> on -> go: functions call each other in a cycle",
        ),
        (f"{RELU}\n{RELU}", "y = f.go (x)", '"" : 21, "f" : 1', "go: function is defined twice"),
        (
            RELU, "y = f.go (x, x)", '"" : 21, "f" : 1',
            "functions cannot be inlined: Number of actual parameters cannot exceed number of formal parameters",
        ),
        (
            '<domain: "f", opset_import: ["" : 21, "h" : 2]> go (a) => (b) { b = h.Relu (a) }',
            "y = f.go (x)", '"" : 21, "f" : 1, "h" : 1',
            "go: function cannot be inlined (does it declare other opsets than the model?)",
        ),
    ],
)  # fmt: skip
def test_refusals(functions: str, body: str, opsets: str, message: str) -> None:
    with pytest.raises(ModelError) as found:
        inline_functions(model(functions, body, opsets))
    assert str(found.value) == message


def test_a_bomb() -> None:
    """Forty functions, each of which calls the next one twice."""
    texts = [
        f'<domain: "f", opset_import: ["" : 21, "f" : 1]> f{i} (a) => (b) {{ c = f.f{i + 1} (a) b = f.f{i + 1} (c) }}'
        for i in range(40)
    ]
    last = '<domain: "f", opset_import: ["" : 21]> f40 (a) => (b) { b = Relu (a) }'
    with pytest.raises(ModelError, match="functions expand to 1099511627776 nodes, more than 1000000"):
        inline_functions(model("\n".join([*texts, last]), "y = f.f0 (x)"))


HEAD = '<domain: "f", opset_import: ["" : 21, "f" : 1]> '
LEAKY = "go <s: float = 0.5> (a) => (b) { b = LeakyRelu <alpha: float = @s> (a) }"


@pytest.mark.parametrize(
    ("body", "functions"),
    [
        ("y = f.go (x)", [LEAKY]),
        ("y = f.top (x)", [LEAKY, "top <s: float = 0.1> (a) => (b) { c = f.go (a) b = f.go <s: float = @s> (c) }"]),
        ("y = f.go (x)", ["go (a, low, high) => (b) { b = Clip (a, low, high) }"]),
        ("k = Constant <value_float = 1.0> () y = f.go (x, , k)", ["go (a, l, h) => (b) { b = Clip (a, l, h) }"]),
        (", y = f.go (x)", ["go (a) => (b, c) { b = Neg (a) c = Abs (b) }"]),
        ("t = Neg (x) u = f.go (t) y = Add (u, t)", ["go (x) => (y) { t = Abs (x) u = Neg (t) y = Add (u, t) }"]),
        (
            "t = Neg (x) z = f.go (t) y = Add (z, t)",
            ["""go (x) => (y) { c = Constant <value = bool {1}> () t = Abs (x)
             y = If (c) <then_branch = p () => (z) { z = Neg (t) }, else_branch = q () => (z) { z = Add (t, x) }> }"""],
        ),
        ("y = f.go (x, x)", ["go (a, c) => (b) { b = Add (a, c) }"]),
        ("y = f.go (x)", ["go <alpha> (a) => (b) { b = LeakyRelu <alpha: float = @alpha> (a) }"]),
    ],
)  # fmt: skip
def test_numbers_are_those_of_onnx_runtime(body: str, functions: list[str]) -> None:
    proto = model("\n".join(HEAD + text for text in functions), body)
    x = np.array([-1, 2, 3], np.float32)
    wanted = ort.InferenceSession(proto.SerializeToString()).run(None, {"x": x})[0]
    inline_functions(proto)
    got = ort.InferenceSession(proto.SerializeToString()).run(None, {"x": x})[0]
    np.testing.assert_array_equal(got, wanted)
