"""Layer by layer: how far the tensors of one model are from those of another on the same samples.

The tensors of a sample are compared as soon as both models have computed them, and then forgotten. `match` says which
tensor is which.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompiler import ir
from qcompiler.analysis.collect import Progress
from qcompiler.analysis.match import match
from qcompiler.analysis.observe import observed, order
from qcompiler.analysis.run import Runner, SessionConfig, is_float
from qcompiler.analysis.tap import Complete, Shed, Tap, known_count
from qcompiler.data import Sample
from qcompiler.numerics import SqnrMeter


@dataclass(frozen=True)
class TensorComparison:
    """One tensor of both models.

    Attributes:
        tensor: its name in the reference.
        other: its name in the other model.
        node, op: what computes it in the reference; empty for an input.
        meter: signal and noise over all samples.
        power: sum of squares of the other model's values.
        worst: largest |difference|.
    """

    tensor: str
    other: str
    node: str = ""
    op: str = ""
    meter: SqnrMeter = field(default_factory=SqnrMeter)
    power: float = 0.0
    worst: float = 0.0

    @property
    def sqnr_db(self) -> float:
        """Signal-to-noise ratio; inf where both are equal, -inf after NaN or infinity."""
        return self.meter.db

    @property
    def cosine(self) -> float:
        """Cosine of the angle between both, over all samples; 1 if both are zero, 0 after NaN or infinity."""
        if not math.isfinite(self.meter.noise + self.power):
            return 0.0
        scale = 2 * math.sqrt(self.meter.signal) * math.sqrt(self.power)
        if scale == 0:
            return 1.0 if self.meter.noise == 0 else 0.0
        return max(-1.0, min(1.0, (self.meter.signal + self.power - self.meter.noise) / scale))

    def update(self, wanted: npt.NDArray[Any], got: npt.NDArray[Any]) -> TensorComparison:
        """Adds the values of one sample."""
        with np.errstate(invalid="ignore", over="ignore"):
            power = float(np.square(got, dtype=np.float64).sum())
            worst = float(np.abs(np.subtract(wanted, got, dtype=np.float64)).max(initial=0.0))
        meter = self.meter.update(wanted, got)
        return replace(self, meter=meter, power=self.power + power, worst=max(self.worst, worst))


@dataclass(frozen=True)
class Comparison:
    """The tensors of two models.

    Attributes:
        tensors: in the order in which the reference computes them.
        skipped: tensors of the reference that were not compared, and why.
        samples: number of samples.
    """

    tensors: tuple[TensorComparison, ...]
    skipped: Mapping[str, str]
    samples: int

    def worst(self) -> list[TensorComparison]:
        """Lowest SQNR first."""
        return sorted(self.tensors, key=lambda tensor: tensor.sqnr_db)

    def first_below(self, floor_db: float) -> TensorComparison | None:
        """The first tensor, in the order of computation, with an SQNR under the floor."""
        return next((tensor for tensor in self.tensors if tensor.sqnr_db < floor_db), None)


def compare(
    reference: ir.Model,
    other: ir.Model,
    source: Iterable[Sample],
    *,
    mapping: Mapping[str, str] | None = None,
    samples: int | None = None,
    memory_budget: int = 512 << 20,
    progress: Progress | None = None,
    config: SessionConfig | None = None,
    other_config: SessionConfig | None = None,
) -> Comparison:
    """Compares every tensor that both models have.

    Args:
        reference, other: models with the same inputs; left alone.
        source: samples; read once, or several times if the tensors of one sample exceed the budget.
        mapping: name in `reference` to name in `other`, for tensors that were renamed.
        samples: how many samples to use; all by default.
        memory_budget: bytes for observed tensors of both models.
        progress: called after every sample.
        config: session settings of both.
        other_config: session settings of `other`, where they differ.

    Raises:
        DataError: there are no samples, or a model cannot run on one.
        ModelError: ONNX Runtime cannot load a model.
    """
    pairs, skipped = match(reference, other, mapping or {})
    head = source if samples is None else _Head(source, samples)
    producer = {tensor.name: node for node in reference.all_nodes() for tensor in node.outputs}
    names = {mine: name for name, (mine, _) in pairs.items()}
    tap = Tap(reference, head, names, memory_budget // 2, config=config or SessionConfig())
    twin = _Twin(other, [theirs for _, theirs in pairs.values()], other_config or config)
    total = known_count(source)
    limit = total if samples is None else samples if total is None else min(total, samples)
    found: dict[str, TensorComparison] = {}
    read = done = 0
    for event in tap:
        if isinstance(event, Shed):
            for mine in event.names:
                found.pop(names[mine], None)
        elif isinstance(event, Complete):
            done = event.samples
        else:
            values = twin.run(event.sample, [pairs[names[mine]][1] for mine in event.values])
            for mine, wanted in event.values.items():
                name, got = names[mine], values.get(pairs[names[mine]][1])
                if not is_float(wanted) or not is_float(got):
                    skipped[name] = "it does not hold floating-point numbers in both models"
                elif wanted.shape != got.shape:
                    skipped[name] = f"its shape is {list(wanted.shape)} in one model and {list(got.shape)} in the other"
                else:
                    node = producer.get(name)
                    origin = (str(node.name), str(node.op)) if node is not None else ("", "")
                    so_far = found.get(name) or TensorComparison(name, pairs[name][1], *origin)
                    found[name] = so_far.update(wanted, got)
            read += 1
            if progress is not None:
                progress(read, limit if tap.whole else None)
    skipped |= {names[mine]: why for mine, why in tap.refused.items()}
    position = order(reference)
    ranked = sorted((found[name] for name in found if name not in skipped), key=lambda item: position[item.tensor])
    return Comparison(tuple(ranked), dict(sorted(skipped.items())), done)


def first_broken(
    reference: ir.Model,
    other: ir.Model,
    source: Iterable[Sample],
    *,
    floor_db: float,
    mapping: Mapping[str, str] | None = None,
    samples: int | None = None,
    config: SessionConfig | None = None,
) -> TensorComparison | None:
    """The first tensor, in the order of computation, whose SQNR falls under `floor_db`; errors as `compare`."""
    return compare(reference, other, source, mapping=mapping, samples=samples, config=config).first_below(floor_db)


@dataclass(eq=False)
class _Head:
    """The first samples of a source."""

    source: Iterable[Sample]
    samples: int

    def __iter__(self) -> Iterator[Sample]:
        return itertools.islice(iter(self.source), self.samples)


@dataclass(eq=False)
class _Twin:
    """The other model, observed at the tensors that are asked for."""

    model: ir.Model
    every: Iterable[str]
    config: SessionConfig | None
    names: list[str] = field(default_factory=list)
    call: Callable[[Sample], dict[str, Any]] | None = None

    def run(self, sample: Sample, names: list[str]) -> dict[str, Any]:
        """Values by tensor name; a tensor that cannot be observed is missing."""
        if self.call is None or names != self.names:
            self.names, self.call = names, None
            seen = observed(self.model, names, witnesses=self.every)
            runner = Runner(seen.payload, self.config, outputs=list(seen.outputs.values()))

            def call(sample: Sample) -> dict[str, Any]:
                values = runner.run(sample.feed, sample=sample.name)
                return {name: values[output] for name, output in seen.outputs.items()}

            self.call = call
        return self.call(sample)
