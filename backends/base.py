"""What a backend offers to the compiler."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from qcompiler import ir
from qcompiler.backends.conformance import Conformance
from qcompiler.pipeline import GraphPass
from qcompiler.quant import Encoding, NodePlan, Precision, Site
from qcompiler.targets import TargetSpec


class Backend(Protocol):
    """One target: its table, its rewrites, its gate."""

    @property
    def spec(self) -> TargetSpec:
        """The table."""

    @property
    def version(self) -> str:
        """Version of the runtime or compiler that checks results."""

    def condition(
        self, precision: Precision, keep_float: tuple[str, ...]
    ) -> tuple[Sequence[GraphPass], Mapping[Site, Encoding]]:
        """Rewrites to make before the plan, and the encodings that they fill in while they run."""

    def inspect(self, model: ir.Model, plan: Mapping[str, NodePlan]) -> Conformance:
        """What the real backend makes of a model.

        Raises:
            ModelError: it refuses the model; the message is its own.
        """
