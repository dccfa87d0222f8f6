"""Second moments of what layers multiply their weights with: E[x x'] of the quantized inputs, streamed.

The inputs of the float model are put on the grid of the plan, and codes minus zero point are multiplied and summed:
these are integers, and 256 products of numbers up to 255 add up to less than 2^24, which float32 holds exactly. Sums
over samples are float64. So the result is the same for every order of samples, number of threads and machine, and no
activation is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qcompiler import ir
from qcompiler.analysis.run import SessionConfig, is_float
from qcompiler.analysis.tap import Complete, Seen, Tap
from qcompiler.data import Sample
from qcompiler.numerics.affine import quantize
from qcompiler.numerics.patches import Array, Window, patches
from qcompiler.quant import Encoding

F64 = npt.NDArray[np.float64]

# Places of each sample that are looked at.
PLACES = 256
# Numbers in the moments of one layer; larger layers are passed over.
MOST = 1 << 23


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer whose inputs are wanted.

    Attributes:
        tensor: what it reads.
        window: how.
        encoding: of what it reads, one scale.
    """

    tensor: str
    window: Window
    encoding: Encoding


@dataclass(frozen=True, eq=False)
class Moments:
    """Sums over patches, in steps from the zero point.

    Attributes:
        count: number of patches.
        first: (groups, K).
        second: (groups, K, K).
    """

    count: int
    first: F64
    second: F64

    @property
    def plain(self) -> F64:
        """E[x x']."""
        return self.second / self.count

    @property
    def centred(self) -> F64:
        """The same of x - E[x], for layers whose bias takes the mean."""
        mean = self.first / self.count
        return self.plain - mean[:, :, None] * mean[:, None, :]


def moments(
    model: ir.Model,
    source: Iterable[Sample],
    layers: Mapping[str, Layer],
    memory_budget: int = 512 << 20,
    config: SessionConfig | None = None,
) -> dict[str, Moments]:
    """The moments of some layers, under the names that they are given by; layers too large are missing.

    Raises:
        DataError: there are no samples, or the model cannot run on one.
    """
    tap = Tap(model, source, {layer.tensor: None for layer in layers.values()}, memory_budget, config=config or _PLAIN)
    found: dict[str, Moments] = {}
    under_way: dict[str, Moments] = {}
    for event in tap:
        if isinstance(event, Seen):
            for name, layer in layers.items():
                value = event.values.get(layer.tensor)
                if value is not None and is_float(value) and value.size:
                    seen = _of(value, layer)
                    if seen is not None:
                        under_way[name] = added(under_way.get(name), seen)
        else:
            done = {name: sums for name, sums in under_way.items() if layers[name].tensor in event.names}
            under_way = {name: sums for name, sums in under_way.items() if name not in done}
            found |= done if isinstance(event, Complete) else {}
    return found


_PLAIN = SessionConfig()


def _of(value: Array, layer: Layer) -> Moments | None:
    spec, zero = layer.encoding.spec, layer.encoding.zero_point
    codes = quantize(
        value.astype(np.float32, copy=False), layer.encoding.scale, zero, qmin=spec.low, qmax=spec.high, dtype=np.int32
    )
    x = patches(codes.astype(np.int32) - zero, layer.window, PLACES).astype(np.float32)
    if x.shape[0] * x.shape[2] ** 2 > MOST:
        return None
    second = np.matmul(x.transpose(0, 2, 1), x)
    return Moments(x.shape[1], x.sum(axis=1, dtype=np.float64), second.astype(np.float64))


def added(one: Moments | None, other: Moments) -> Moments:
    """The sums of both."""
    if one is None:
        return other
    return Moments(one.count + other.count, one.first + other.first, one.second + other.second)
