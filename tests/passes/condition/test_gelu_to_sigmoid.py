"""Gelu by way of Sigmoid, with grids that are known beforehand."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler import ir
from qcompiler.passes.condition.gelu_to_sigmoid import GeluToSigmoid
from qcompiler.quant import PerTensor, QSpec
from qcompiler.quant.qtype import UINT8, UINT16
from tests.graphs import parse, refusals, run, transform

U16 = QSpec(UINT16, PerTensor())
TEXT = "g (float[1,4,64] x) => (float[1,4,64] y) {{ y = Gelu{}(x) }}"


@pytest.mark.parametrize("attrs", ["", '<approximate="tanh">'])
@pytest.mark.parametrize("spec", [U16, QSpec(UINT8, PerTensor())])
def test_what_is_added_stays_on_its_grid(attrs: str, spec: QSpec) -> None:
    before, step = parse(TEXT.format(attrs)), GeluToSigmoid(spec)
    after, records = transform(before, step)
    assert records[0].changes == 1 and after.nodes[-1].name == before.nodes[0].name
    added = [tensor.name for node in after.nodes[:-1] for tensor in node.outputs]
    assert {site.tensor for site in step.given} == {*added}
    x = np.linspace(-30, 30, 256, dtype=np.float32).reshape(1, 4, 64)
    edit = ir.Editor(after, after.graph)
    for tensor in [tensor for node in after.nodes[:-1] for tensor in node.outputs]:
        edit.add_output(tensor, f"seen_{tensor.name}")
    values = dict(zip(added, run(after, {"x": x})[1:], strict=True))
    for site, encoding in step.given.items():
        low, high = encoding.range
        edge = float(encoding.scale) * 1.01
        inside = values[site.tensor] if site.tensor != added[0] else np.clip(values[site.tensor], low, high)
        assert low - edge <= inside.min() and inside.max() <= high + edge, site


def test_the_grid_of_the_clipped_value_lies_inside_the_bounds() -> None:
    step = GeluToSigmoid(U16)
    after, _ = transform(parse(TEXT.format("")), step)
    clip = next(node for node in after.nodes if node.op == "Clip")
    (encoding,) = [encoding for site, encoding in step.given.items() if site.tensor == clip.outputs[0].name]
    scale, zero = np.float32(encoding.scale), int(encoding.zero_point)
    low, high = (np.asarray(tensor.values) for tensor in clip.inputs[1:])
    assert low <= np.float32(-zero) * scale and np.float32(65535 - zero) * scale <= high


def test_what_is_kept_in_float_stays_one_operator() -> None:
    before = parse(TEXT.format(""))
    after, records = transform(before, GeluToSigmoid(U16, ("*Gelu",)))
    assert [node.op for node in after.nodes] == ["Gelu"] and records[0].changes == 0 and not refusals(records)
