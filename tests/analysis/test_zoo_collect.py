"""Statistics of real models: every tensor, inside branches too, the same bytes however they are collected."""

from __future__ import annotations

import itertools
from types import ModuleType

import numpy as np
import onnx
import pytest

from qcompiler import ir
from qcompiler.analysis import HISTOGRAM, collect
from qcompiler.analysis.stats_file import to_bytes
from qcompiler.data import Sample

pytestmark = pytest.mark.zoo


def model_of(zoo: ModuleType, name: str) -> ir.Model:
    proto = onnx.shape_inference.infer_shapes(onnx.load(zoo.MODELS[name].path))
    return ir.Model.from_proto(proto)


def floats(model: ir.Model) -> list[str]:
    tensors = [*model.inputs, *(tensor for node in model.all_nodes() for tensor in node.outputs)]
    constants = {node.outputs[0].name for node in model.all_nodes() if node.op == "Constant"}
    return [tensor.name for tensor in tensors if tensor.dtype == np.float32 and tensor.name not in constants]


def samples(zoo: ModuleType, name: str, count: int) -> list[Sample]:
    feeds = itertools.islice(zoo.MODELS[name].calibration(), count)
    return [Sample(feed, None, f"{name}[{i}]") for i, feed in enumerate(feeds)]


@pytest.mark.parametrize(("name", "budget"), [("resnet20_cifar10", 3 << 20), ("minilm_l6", 8 << 20)])
def test_every_tensor_in_any_way_gives_the_same_bytes(zoo: ModuleType, name: str, budget: int) -> None:
    model, source = model_of(zoo, name), samples(zoo, name, 4)
    wanted = dict.fromkeys(floats(model), (HISTOGRAM,))
    whole = collect(model, source, wanted)
    assert set(whole) == set(wanted) and not whole.unseen
    assert to_bytes(collect(model, source, wanted, memory_budget=budget)) == to_bytes(whole)
    halves = [collect(model, source[i::2], wanted) for i in (0, 1)]
    assert to_bytes(halves[0].merge(halves[1])) == to_bytes(halves[1].merge(halves[0])) == to_bytes(whole)


def test_tensors_inside_branches(zoo: ModuleType) -> None:
    model, source = model_of(zoo, "silero_vad"), samples(zoo, "silero_vad", 8)
    inside = {tensor.name for graph in list(model.graphs())[1:] for node in graph.nodes for tensor in node.outputs}
    stats = collect(model, source, dict.fromkeys(floats(model), (HISTOGRAM,)))
    assert set(stats.unseen.values()) == {"its branch was not taken by any sample"}
    assert len(inside & set(stats)) > 20 and len(inside & set(stats.unseen)) > 20
    assert all(stats.histogram(name).total for name in stats)
