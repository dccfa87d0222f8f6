"""Second moments of the inputs of matrix products: sum x x^T over all rows x of all samples, in float64.

They weigh the errors of weights by what the weights are multiplied with. They are read sample by sample, within the
memory budget, and are no part of `Stats`: sums of floats depend on their order, so shards would not join bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from qcompiler import ir
from qcompiler.analysis.run import SessionConfig
from qcompiler.analysis.tap import Seen, Shed, Tap
from qcompiler.data import Sample
from qcompiler.errors import DataError
from qcompiler.numerics.patches import Window, patches
from qcompiler.numerics.shrinkage import shrink

F64 = npt.NDArray[np.float64]
PLACES = 256
"""Places of each sample that a convolution is looked at."""
SAMPLES = 64
"""Samples that convolutions are looked at on: with their places, patches enough for the widest."""
LARGEST = 1 << 13
"""Widths above this are left out: the matrix would take 512 MiB and more."""


def collect_moments(
    model: ir.Model,
    source: Iterable[Sample],
    widths: Mapping[str, int],
    *,
    memory_budget: int = 512 << 20,
    progress: Callable[[int, int | None], None] | None = None,
    config: SessionConfig | None = None,
) -> dict[str, F64]:
    """The moments of each tensor, over its last axis.

    Args:
        model: the graph to observe; left alone.
        source: samples.
        widths: length of the last axis of each wanted tensor.
        memory_budget: bytes that the observed values of a sample may take.
        progress: called after every sample.
        config: session settings.

    Returns:
        By tensor; those that cannot be observed, are wider than `LARGEST`, or held no row are missing.

    Raises:
        DataError: a tensor holds NaN or infinity, or the model cannot run on a sample.
    """
    wanted = {name: width for name, width in widths.items() if width <= LARGEST}
    found: dict[str, F64] = {}
    if not wanted:
        return found
    tap = Tap(model, source, wanted, memory_budget, 0, config or SessionConfig())
    read = 0
    for event in tap:
        if isinstance(event, Shed):
            for name in event.names:
                found.pop(name, None)
        if not isinstance(event, Seen):
            continue
        read += 1
        for name, value in event.values.items():
            rows = _rows(value)
            if not rows.size or rows.shape[1] != wanted[name]:
                continue
            _add(found, name, _finite(name, rows.T @ rows, event.sample))
        if progress is not None:
            progress(read, None)
    return found


def collect_patch_moments(
    model: ir.Model, source: Iterable[Sample], layers: Mapping[str, tuple[str, Window]], memory_budget: int = 512 << 20
) -> dict[str, F64]:
    """The same of the patches that convolutions without groups multiply their weights with, on the first samples.

    Args:
        model, source, memory_budget: as for `collect_moments`.
        layers: what each reads, and how.

    Raises:
        DataError: the model cannot run on a sample.
    """
    found: dict[str, F64] = {}
    if not layers:
        return found
    tensors = dict.fromkeys(tensor for tensor, _ in layers.values())
    for event in Tap(model, list(islice(source, SAMPLES)), tensors, memory_budget, 0, SessionConfig()):
        if isinstance(event, Shed):
            for name in [name for name, (tensor, _) in layers.items() if tensor in event.names]:
                found.pop(name, None)
        if not isinstance(event, Seen):
            continue
        for name, (tensor, window) in layers.items():
            if tensor in event.values and event.values[tensor].size:
                rows = patches(np.asarray(event.values[tensor], np.float32), window, PLACES)[0]
                _add(found, name, rows.T @ rows)
    return {name: value for name, value in found.items() if np.isfinite(value).all()}


class Pair(NamedTuple):
    """Sums over rows x of a float model and y of the same place in another: of y y^T, and of (x - y) y^T."""

    second: F64
    lost: F64


def summed(name: str, width: int, values: Iterable[npt.NDArray[Any]], samples: Sequence[Sample]) -> F64 | None:
    """The moments of one tensor, shrunk (`shrinkage`); None where it is wider than `LARGEST`, or held no row.

    Args:
        name: of the tensor.
        width: length of its last axis.
        values: what it is for each sample.
        samples: their names are for messages.

    Raises:
        DataError: it holds NaN or infinity.
    """
    if width > LARGEST:
        return None
    found, count = dict[str, F64](), 0
    for value, sample in zip(values, samples, strict=True):
        rows = _rows(value)
        if rows.size and rows.shape[1] == width:
            _add(found, name, _finite(name, rows.T @ rows, sample))
            count += len(rows)
    if found:
        shrink(found[name], count)
    return found.get(name)


def paired(
    name: str,
    width: int,
    reference: Iterable[npt.NDArray[Any]],
    values: Iterable[npt.NDArray[Any]],
    samples: Sequence[Sample],
) -> Pair | None:
    """What a tensor is beside what it is in a reference, which comes first; otherwise as `summed`."""
    if width > LARGEST:
        return None
    found, count = dict[str, F64](), 0
    for one, other, sample in zip(reference, values, samples, strict=True):
        x, y = _rows(one), _rows(other)
        if x.size and x.shape[1] == width:
            _add(found, "second", _finite(name, y.T @ y, sample))
            _add(found, "lost", _finite(name, np.asarray((x - y).T @ y, np.float32), sample))
            count += len(x)
    if not found:
        return None
    found["lost"] *= shrink(found["second"], count)
    return Pair(**found)


def _add(found: dict[str, F64], name: str, product: npt.NDArray[np.float32]) -> None:
    """Each sample's product in float32, all of them added in float64: float32 rounding of one sample is far below what
    samples differ by."""
    if name in found:
        found[name] += product
    else:
        found[name] = product.astype(np.float64)


def _finite(name: str, product: npt.NDArray[np.float32], sample: Sample) -> npt.NDArray[np.float32]:
    if not np.isfinite(product).all():
        raise DataError(f"tensor {name!r} holds NaN or infinity", where=sample.name)
    return product


def _rows(value: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    return np.asarray(value, np.float32).reshape(-1, value.shape[-1])
