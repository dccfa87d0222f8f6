"""The emulated check: what the x86 emulator computes, beside ONNX Runtime on the same graph and beside the float model.

    SQNR(emulator, QDQ)     how far the compiled model is from its own arithmetic: faults of the compile
    SQNR(emulator, float)   what a user gets
    SQNR(QDQ, float)        what quantization costs

The emulator rounds as the processor of the architecture does, within one step of an operator's grid; over many layers
of 8 bits that adds up. A compile is wrong where the emulator is far from the QDQ model and farther from float than
that. It says nothing of latency. docs: QNN fact sheet, section 3 and the thresholds of section 4.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompiler import ir
from qcompiler.analysis import Runner, SessionConfig
from qcompiler.backends.qnn.runtime import STRICT, Answer, Request, ask, last_line
from qcompiler.backends.qnn.socs import Soc
from qcompiler.numerics import SqnrMeter

Values = Mapping[str, npt.NDArray[Any]]
Ran = tuple[list[Values], float, str]
"""Outputs of every feed, seconds of one inference, and why there are none."""
REFERENCE = SessionConfig(level="off")
ENOUGH = {8: 30.0, 16: 45.0}
"""dB between emulator and QDQ model from which on nothing is asked, by bits of the activations."""
WORSE = 6.0
"""dB by which the emulator may be farther from float than the QDQ model."""


@dataclass(frozen=True)
class OutputCheck:
    """One output over all samples; ratios in dB.

    Attributes:
        qdq: emulator against the QDQ model.
        real: emulator against the float model.
        planned: QDQ model against the float model.
        agree: share of largest entries along the last axis (equal entries of integer outputs) that agree with QDQ.
    """

    qdq: float
    real: float
    planned: float
    agree: float


@dataclass(frozen=True)
class Emulation:
    """What the emulator did for one chip.

    Attributes:
        soc: the chip.
        outputs: by name.
        samples: how many.
        seconds: of one inference, the median.
        error: why it could not, empty if it could.
        shape: of the inputs, where it is not that of the samples.
    """

    soc: Soc
    outputs: Mapping[str, OutputCheck] = field(default_factory=dict)
    samples: int = 0
    seconds: float = 0.0
    error: str = ""
    shape: str = ""

    @property
    def where(self) -> str:
        """The chip, and the shape."""
        return f"{self.soc.name} at {self.shape}" if self.shape else self.soc.name

    @property
    def worst(self) -> float | None:
        """The lowest ratio against QDQ."""
        return min((check.qdq for check in self.outputs.values()), default=None)

    def failures(self, bits: int) -> list[str]:
        """Outputs that are wrong."""
        if self.error:
            return [f"the emulator of {self.where} cannot run the binary: {self.error}"]
        return [
            f"{self.where}: output {name!r} is {check.qdq:.1f} dB from the QDQ model and {check.real:.1f} dB from "
            f"float, where QDQ has {check.planned:.1f} dB: an operator is computed wrongly (qcompile compare finds it)"
            for name, check in self.outputs.items()
            if check.qdq < ENOUGH[bits] and check.real < check.planned - WORSE
        ]


def emulated(
    model: Path, feeds: Sequence[Values], soc: Soc, work: Path, tell: Callable[[str, int, int | None], None]
) -> Ran:
    """Outputs of every feed, seconds of one inference, and why there are none.

    Args:
        model: a context binary, or a QDQ model that is compiled on the way.
        feeds: inputs.
        soc: the chip.
        work: an empty folder.
        tell: told how many are done.
    """
    request = {
        "model": str(model.resolve()), "options": {"soc_model": str(soc.number)}, "entries": STRICT,
        **running(feeds, work),
    }  # fmt: skip
    stage, outputs = f"emulate {soc.name}", work / "outputs"
    tell(stage, 0, len(feeds))
    watch = lambda: tell(stage, sum(1 for _ in outputs.glob("*.npz")), len(feeds))  # noqa: E731
    return ran(ask([request], work / "ask", watch=watch)[0], work)


def running(feeds: Sequence[Values], work: Path) -> Request:
    """What makes a request for a compile one for a run; the feeds are written to an empty folder."""
    inputs, outputs = work / "feeds", work / "outputs"
    inputs.mkdir(parents=True)
    outputs.mkdir()
    for i, feed in enumerate(feeds):
        np.savez(inputs / f"{i:06}.npz", allow_pickle=False, **feed)
    return {"task": "run", "feeds": str(inputs.resolve()), "outputs": str(outputs.resolve())}


def ran(answer: Answer, work: Path) -> Ran:
    """What a run has left in that folder."""
    if not answer.ok:
        return [], 0.0, last_line(answer)
    found: list[Values] = []
    for file in sorted((work / "outputs").glob("*.npz")):
        with np.load(file) as archive:
            found.append(dict(archive))
    return found, float(np.median(answer.facts["runs"] or [0.0])), ""


def check(got: Sequence[Values], quantized: Sequence[Values], real: Sequence[Values]) -> Mapping[str, OutputCheck]:
    """Compares the outputs of the same feeds."""
    found: dict[str, OutputCheck] = {}
    for name in quantized[0]:
        triples = [(a[name], b[name], c[name]) for a, b, c in zip(got, quantized, real, strict=True)]
        meters = [SqnrMeter(), SqnrMeter(), SqnrMeter()]
        agree: list[float] = []
        for emulator, qdq, wanted in triples:
            pairs = ((qdq, emulator), (wanted, emulator), (wanted, qdq))
            meters = [meter.update(*pair) for meter, pair in zip(meters, pairs, strict=True)]
            agree.append(agreement(emulator, qdq))
        qdq_db, real_db, planned_db = (meter.db for meter in meters)
        found[name] = OutputCheck(qdq_db, real_db, planned_db, float(np.mean(agree)))
    return found


def agreement(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> float:
    """The share of largest entries along the last axis that agree; of all entries where there is no choice."""
    if one.dtype.kind == "f" and one.ndim and one.shape[-1] > 1:
        return float((one.argmax(-1) == other.argmax(-1)).mean())
    return float((one == other).mean())


def outputs_of(model: ir.Model, feeds: Sequence[Values]) -> list[Values]:
    """What ONNX Runtime computes on the CPU, node by node."""
    runner = Runner(model, REFERENCE)
    return [runner.run(feed) for feed in feeds]
