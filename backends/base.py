"""What a backend offers to the compiler."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy.typing as npt

from qcompiler import ir
from qcompiler.analysis import SessionConfig, Stats
from qcompiler.analysis.compare import Comparison
from qcompiler.backends.conformance import Conformance
from qcompiler.data import Sample, Source
from qcompiler.errors import UsageError
from qcompiler.passes.plan.encode import Ranges
from qcompiler.pipeline import GraphPass
from qcompiler.quant import Encoding, Precision, QuantPlan, Site
from qcompiler.targets import TargetSpec

Tell = Callable[[str, int, "int | None"], None]
"""Called with a stage, how much of it is done, and how much there is in all."""


@dataclass(frozen=True)
class Conditioning:
    """Rewrites to make before the plan, and what they fill in while they run.

    Attributes:
        passes: in order.
        given: encodings that follow from the rewrites alone.
        aliases: for a new tensor, the one of the prepared model that holds the same values (or these and zeros), so
            that statistics and given encodings of that one serve; for a new weight, the one whose channels it has.
    """

    passes: Sequence[GraphPass] = ()
    given: Mapping[Site, Encoding] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Host:
    """What times measured on this machine say about the target.

    Attributes:
        modelled: why they are not the target's, for a person; empty where they are.
        indicative: they still rank candidates; where not, nothing is timed.
        entries: session options with which this machine runs the target's models as the target would.
    """

    modelled: str = ""
    indicative: bool = True
    entries: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, eq=False)
class Job:
    """What a backend builds the artifacts of a compile from.

    Attributes:
        name: of the model, for names of files.
        original: the model as given.
        planned: the graph that the plan speaks of.
        model: what ships, ready for the backend: planned, lowered and legal.
        plan: what it was made from.
        precision: of the plan, `float` where nothing quantized ships.
        stats: what calibration saw; None without data.
        samples: to check results on; None without data.
        config: the session that ONNX Runtime runs it fastest with.
        feed: an input to time it on; None where times say nothing.
        ranges: dynamic inputs with their bounds, as given: "min:opt:max" by name.
        folder: an empty folder; what is written to it is shipped.
        tell: told the stage, how much is done, and how much there is.
        others: the same at other fixed shapes, with the same weights.
        on_disk: weights are larger than memory: nothing may load them all, or run the model.
    """

    name: str
    original: ir.Model
    planned: ir.Model
    model: ir.Model
    plan: QuantPlan
    precision: Precision
    stats: Stats | None
    samples: Source | None
    config: SessionConfig
    feed: Mapping[str, npt.NDArray[Any]] | None
    ranges: Mapping[str, str]
    folder: Path
    tell: Callable[[str, int, int | None], None]
    others: Sequence[ir.Model] = ()
    on_disk: bool = False


class Backend(Protocol):
    """One target: its table, its rewrites, its gate. A frozen dataclass whose fields are the options it takes."""

    @property
    def variant(self) -> str:
        """The hardware."""

    @property
    def spec(self) -> TargetSpec:
        """The table."""

    @property
    def version(self) -> str:
        """Version of the runtime or compiler that checks results."""

    @property
    def host(self) -> Host:
        """What this machine can measure."""

    def condition(self, precision: Precision, keep_float: tuple[str, ...]) -> Conditioning:
        """Rewrites to make before the plan."""

    def wished(self, precision: str, model: ir.Model, *, data: bool) -> Sequence[Precision]:
        """The precisions to try for what was asked for, best first.

        Args:
            precision: `auto`, or the name of one.
            model: after prepare and fusion.
            data: whether there are calibration samples or statistics.
        """

    def legalise(self, plan: QuantPlan, stats: Ranges | None, precision: Precision) -> Sequence[GraphPass]:
        """Rewrites to make on the graph with Q and DQ, so that the backend computes each node as planned.

        Args:
            plan: empty for a float model.
            stats: of the values that the plan needs, and those that it asked for besides; None without data.
            precision: of the whole model.
        """

    def simulate(self, model: ir.Model) -> ir.Model:
        """The model that ONNX Runtime runs in place of a legal one, to judge its accuracy: itself where it can."""

    def sessions(self, model: ir.Model) -> tuple[SessionConfig, ...]:
        """The default session, then others that may be faster for this model; whether they are is for measuring.

        Raises:
            ModelError: the backend refuses the model.
        """

    def origin(self, name: str) -> str:
        """The name of our node or tensor behind a name in the backend's optimised graph."""

    def build(self, job: Job) -> Conformance:
        """Writes the artifacts, has the real backend compile them, and says what it made of them.

        Raises:
            ModelError: it refuses the model; the message is its own.
            DataError: the model cannot run on a sample.
        """


class Untimed(Backend, Protocol):
    """What backends have in common that this machine cannot time: there is nothing to choose, and names are ours."""

    def condition(self, precision: Precision, keep_float: tuple[str, ...]) -> Conditioning:
        """Nothing."""
        return Conditioning()

    def simulate(self, model: ir.Model) -> ir.Model:
        """Itself: ONNX Runtime computes Q, DQ and what lies between on the CPU."""
        return model

    def sessions(self, model: ir.Model) -> tuple[SessionConfig, ...]:
        """One."""
        return (SessionConfig(entries=self.host.entries),)

    def origin(self, name: str) -> str:
        """Itself."""
        return name


@runtime_checkable
class Emulator(Protocol):
    """A backend that can run a model as the target would, without the target."""

    def layers(self, reference: ir.Model, model: ir.Model, samples: Iterable[Sample], tell: Tell) -> Comparison:
        """Every stored value of a model as the target computes it, against that of a reference in ONNX Runtime.

        Raises:
            MissingExtraError: the emulator is not installed.
            ModelError, DataError: a model cannot be compiled or run.
        """


B = TypeVar("B", bound=Backend)


def configured(backend: B, options: Mapping[str, Any]) -> B:
    """The backend with options set.

    Raises:
        UsageError: it does not take one of them, or not with this value.
    """
    known = options_of(backend)
    for key in options:
        if key not in known:
            hint = f"it takes {', '.join(map(flag, known))}" if known else ""
            why = backend.spec.refuses.get(key)
            said = f"target {backend.spec.name!r} has no such option{': ' if why else ''}{why or ''}"
            raise UsageError(said, where=flag(key), hint="" if why else hint)
    return replace(backend, **options)  # type: ignore[type-var]


def options_of(backend: Backend) -> tuple[str, ...]:
    """The names of the options that a backend takes."""
    return tuple(entry.name for entry in fields(backend) if entry.name != "variant")  # type: ignore[arg-type]


def flag(option: str) -> str:
    """An option as the command line has it."""
    return "--" + option.replace("_", "-")
