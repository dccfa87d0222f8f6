"""The networks that the onnx package ships without weights (`onnx/backend/test/data/light`), with weights made up.

Their weights are made up, so only that they compile and how fast the result is can be measured; the samples are seeded
normal values, which serve here as data for a made-up network and nowhere else.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
SAMPLES = 4


def names() -> list[str]:
    """The networks, without the prefix of their files."""
    return [path.stem.removeprefix("light_") for path in sorted(LIGHT.glob("light_*.onnx"))]


def with_weights(name: str, target: Path) -> Path:
    """The network with initializers in place of the ConstantOfShape nodes that stand for them, in He's scale."""
    model = onnx.load(LIGHT / f"light_{name}.onnx")
    rng = np.random.default_rng(0)
    shapes = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    kept = []
    for node in model.graph.node:
        if node.op_type != "ConstantOfShape" or node.input[0] not in shapes:
            kept.append(node)
            continue
        shape = tuple(int(d) for d in shapes[node.input[0]])
        fan_in = max(1, int(np.prod(shape[1:])))
        values = np.abs(rng.normal(1, 0.1, shape)) if len(shape) < 2 else rng.normal(0, np.sqrt(2 / fan_in), shape)
        model.graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), node.output[0]))
    del model.graph.node[:]
    model.graph.node.extend(kept)
    read = {name for node in kept for name in node.input}
    weights = [tensor for tensor in model.graph.initializer if tensor.name in read]
    del model.graph.initializer[:]
    model.graph.initializer.extend(weights)
    # Weights that are inputs, too, may be replaced by the caller, so that nothing could be fused: not even in float.
    names = {tensor.name for tensor in weights} | set(shapes)
    inputs = [value for value in model.graph.input if value.name not in names]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    model.ir_version = max(model.ir_version, 4)  # the first where initializers need not be inputs
    onnx.save(model, target)
    return target


def feeds(name: str, count: int = SAMPLES) -> list[dict[str, np.ndarray]]:
    """Seeded feeds for every input."""
    graph = onnx.load(LIGHT / f"light_{name}.onnx").graph
    rng, known = np.random.default_rng(1), {t.name for t in graph.initializer}
    shapes = {
        info.name: [d.dim_value or 1 for d in info.type.tensor_type.shape.dim]
        for info in graph.input
        if info.name not in known
    }
    return [{n: rng.normal(size=s).astype(np.float32) for n, s in shapes.items()} for _ in range(count)]
