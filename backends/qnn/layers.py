"""Layer by layer: every stored value as the emulator computes it, beside the same value in ONNX Runtime.

The dequantized values become outputs of the graph, which leaves what computes them as it is: the provider gives each
reader of a value a DequantizeLinear of its own. Where emulation and QDQ part, an operator is computed otherwise than it
says. docs: QNN fact sheet, section 3.

Some values the provider does not give out: with them as outputs it refuses the nodes in front of their operators. They
are left out, and it is asked again.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import onnx

from qcompiler import ir
from qcompiler.analysis import Runner
from qcompiler.analysis.compare import Comparison, TensorComparison
from qcompiler.backends.base import Tell
from qcompiler.backends.qnn.compile import Settings, once
from qcompiler.backends.qnn.emulate import REFERENCE, Values, emulated
from qcompiler.backends.qnn.socs import Soc
from qcompiler.data import Sample
from qcompiler.errors import ModelError
from qcompiler.passes.prepare.purity import GRID

ROUNDS = 4
"""How often values are left out before the model is given up."""


def compare(reference: ir.Model, model: ir.Model, samples: Iterable[Sample], soc: Soc, tell: Tell) -> Comparison:
    """The emulated values of a model against those of a reference.

    Args:
        reference: the same QDQ model, another one, or the float model.
        model: with Q and DQ.
        samples: all of them are held in memory, with every value: a few.
        soc: the chip.
        tell: told how many are done.

    Raises:
        ModelError: the provider refuses the model.
        DataError: the reference cannot run on a sample.
    """
    every = values(model)
    feeds = [dict(sample.feed) for sample in samples]
    stored, got = given_out(model, every, feeds, soc, tell)
    known = {tensor.name for node in reference.nodes for tensor in node.outputs}
    pairs = {name: (dq if dq in known else name) for name, dq in stored.items() if dq in known or name in known}
    runner = Runner(ir.Model.from_proto(observed(reference, pairs.values())), REFERENCE, outputs=[*pairs.values()])
    makers = {tensor.name: node for node in model.nodes for tensor in node.outputs}
    found: dict[str, TensorComparison] = {}
    skipped = {name: "the reference has no such value" for name in stored if name not in pairs}
    skipped |= {name: "the provider does not give it out" for name in every if name not in stored}
    for feed, emulation in zip(feeds, got, strict=True):
        wanted = runner.run(feed)
        for name, mine in pairs.items():
            node = makers.get(name)
            origin = (node.name, node.op) if node is not None else ("", "")
            if wanted[mine].shape != emulation[stored[name]].shape:
                skipped[name] = "its shapes differ"
                continue
            so_far = found.get(name) or TensorComparison(name, stored[name], *origin)
            found[name] = so_far.update(wanted[mine], emulation[stored[name]])
    return Comparison(tuple(found.values()), skipped, len(feeds))


def values(model: ir.Model) -> Mapping[str, str]:
    """Each value that is stored, by its float name: the result of its first DequantizeLinear."""
    found: dict[str, str] = {}
    ends = {tensor.name for tensor in model.outputs}
    for node in model.nodes:
        if node.op != "DequantizeLinear" or not node.inputs[0].inputs:
            continue
        quantizer, result = node.inputs[0].inputs[0], node.outputs[0].name
        if quantizer.op == "QuantizeLinear":
            found.setdefault(result if result in ends else quantizer.inputs[0].name, result)
    return found


def given_out(
    model: ir.Model, wanted: Mapping[str, str], feeds: Sequence[Values], soc: Soc, tell: Tell
) -> tuple[Mapping[str, str], Sequence[Values]]:
    """Those of some stored values that the provider gives out, and what the emulator computes of them for each feed.

    Raises:
        ModelError: the provider refuses the model.
    """
    stored = dict(wanted)
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as folder:
            work = Path(folder)
            proto = observed(model, stored.values())
            onnx.save(proto, work / "model.onnx")
            got, _, error = emulated(work / "model.onnx", feeds, soc, work / "run", tell)
            if not error:
                return stored, got
            refused = once(ir.Model.from_proto(proto), Settings((soc,)), work, work / "again").refused
        hidden = behind(model, refused, stored)
        if not hidden:
            break
        stored = {name: dq for name, dq in stored.items() if name not in hidden}
    raise ModelError(f"the QNN provider refuses the model: {error}")


def behind(model: ir.Model, names: Iterable[str], stored: Mapping[str, str]) -> set[str]:
    """The first stored values that are computed from the results of some nodes."""
    nodes, found = {node.name: node for node in model.nodes}, set[str]()
    readers, seen = [reader for name in names if name in nodes for reader in past_grid(nodes[name])], set[int]()
    while readers:
        node = readers.pop()
        here = {tensor.name for tensor in node.outputs} & stored.keys()
        found |= here
        if not here and id(node) not in seen:
            seen.add(id(node))
            readers += past_grid(node)
    return found


def past_grid(node: ir.Node) -> Iterator[ir.Node]:
    """What reads the results of a node, past Q and DQ."""
    for tensor in node.outputs:
        for reader in tensor.outputs:
            if reader.op in GRID:
                yield from past_grid(reader)
            else:
                yield reader


def observed(model: ir.Model, names: Iterable[str]) -> onnx.ModelProto:
    """The model with more outputs."""
    proto = model.to_proto()
    have = {value.name for value in proto.graph.output}
    typed = {value.name: value for value in proto.graph.value_info}
    for name in dict.fromkeys(names):
        if name not in have:
            proto.graph.output.append(typed.get(name) or onnx.ValueInfoProto(name=name))
    return proto
