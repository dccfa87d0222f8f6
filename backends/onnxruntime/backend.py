"""The ONNX Runtime backend: the table, the rewrites that it profits from, the gate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from qcompiler import ir
from qcompiler.analysis import SessionConfig
from qcompiler.backends.base import Conditioning
from qcompiler.backends.conformance import Conformance
from qcompiler.backends.onnxruntime.condition import condition
from qcompiler.backends.onnxruntime.gate import Feed, gate
from qcompiler.backends.onnxruntime.hold_float import HoldFloat
from qcompiler.backends.onnxruntime.inspect import origin_of
from qcompiler.backends.onnxruntime.sessions import sessions
from qcompiler.backends.onnxruntime.spec import SPEC
from qcompiler.backends.onnxruntime.spread_bias import SpreadBias
from qcompiler.pipeline import GraphPass
from qcompiler.quant import NodePlan, Precision
from qcompiler.targets import TargetSpec


@dataclass(frozen=True)
class OnnxRuntime:
    """See `qcompiler.backends.base.Backend`."""

    spec: TargetSpec = SPEC

    @property
    def version(self) -> str:
        """Version of the installed onnxruntime."""
        import onnxruntime

        return str(onnxruntime.__version__)

    def condition(self, precision: Precision, keep_float: tuple[str, ...]) -> Conditioning:
        """What `condition` offers, where convolutions are quantized."""
        return condition(keep_float) if precision in ("int8", "mixed") else Conditioning()

    def legalise(self, plan: Mapping[str, NodePlan]) -> Sequence[GraphPass]:
        """Forms that ONNX Runtime's optimizers leave as planned; nothing else changes."""
        return (SpreadBias(plan), HoldFloat(plan))

    def sessions(self, model: ir.Model) -> tuple[SessionConfig, ...]:
        """See `sessions`."""
        return sessions(model)

    def origin(self, name: str) -> str:
        """See `inspect.origin_of`."""
        return origin_of(name)

    def inspect(
        self,
        model: ir.Model,
        plan: Mapping[str, NodePlan],
        config: SessionConfig | None = None,
        feed: Feed | None = None,
    ) -> Conformance:
        """See `gate`."""
        return gate(model, plan, config or SessionConfig(), feed)


BACKEND = OnnxRuntime()
