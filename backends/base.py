"""What a backend offers to the compiler."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy.typing as npt

from qcompiler import ir
from qcompiler.analysis import SessionConfig
from qcompiler.backends.conformance import Conformance
from qcompiler.pipeline import GraphPass
from qcompiler.quant import Encoding, NodePlan, Precision, Site
from qcompiler.targets import TargetSpec


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


class Backend(Protocol):
    """One target: its table, its rewrites, its gate."""

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

    def legalise(self, plan: Mapping[str, NodePlan]) -> Sequence[GraphPass]:
        """Rewrites to make on the graph with Q and DQ, so that the backend computes each node as planned."""

    def sessions(self, model: ir.Model) -> tuple[SessionConfig, ...]:
        """The default session, then others that may be faster for this model; whether they are is for measuring.

        Raises:
            ModelError: the backend refuses the model.
        """

    def origin(self, name: str) -> str:
        """The name of our node or tensor behind a name in the backend's optimised graph."""

    def inspect(
        self,
        model: ir.Model,
        plan: Mapping[str, NodePlan],
        config: SessionConfig | None = None,
        feed: Mapping[str, npt.NDArray[Any]] | None = None,
    ) -> Conformance:
        """What the real backend makes of a model.

        Args:
            model: ready to run.
            plan: how its nodes were planned.
            config: the session that it ships with; the default one if missing.
            feed: an input to run it on, to say what its slow forms cost.

        Raises:
            ModelError: it refuses the model; the message is its own.
            DataError: the model cannot run on the feed.
        """
