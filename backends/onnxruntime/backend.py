"""The ONNX Runtime backend: the table, the rewrites that it profits from, the gate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from qcompiler import ir
from qcompiler.analysis import SessionConfig
from qcompiler.backends.base import Conditioning, Host
from qcompiler.backends.conformance import Conformance
from qcompiler.backends.onnxruntime.condition import condition
from qcompiler.backends.onnxruntime.gate import Feed, gate
from qcompiler.backends.onnxruntime.hold_float import HoldFloat
from qcompiler.backends.onnxruntime.inspect import origin_of
from qcompiler.backends.onnxruntime.sessions import sessions
from qcompiler.backends.onnxruntime.spread_bias import SpreadBias
from qcompiler.backends.onnxruntime.spread_norm import SpreadNorm
from qcompiler.backends.onnxruntime.variants import VARIANTS
from qcompiler.pipeline import GraphPass
from qcompiler.quant import NodePlan, Precision
from qcompiler.targets import TargetSpec


@dataclass(frozen=True)
class OnnxRuntime:
    """See `qcompiler.backends.base.Backend`."""

    variant: str = "vnni"

    @property
    def spec(self) -> TargetSpec:
        """The table of the variant."""
        return VARIANTS[self.variant].spec

    @property
    def host(self) -> Host:
        """Whether this machine is of the variant's kind."""
        return VARIANTS[self.variant].host(self.variant)

    @property
    def version(self) -> str:
        """Version of the installed onnxruntime."""
        import onnxruntime

        return str(onnxruntime.__version__)

    def condition(self, precision: Precision, keep_float: tuple[str, ...]) -> Conditioning:
        """What `condition` offers, where convolutions are quantized."""
        if precision not in ("int8", "mixed"):
            return Conditioning()
        return condition(keep_float, self.spec, VARIANTS[self.variant].stored)

    def legalise(self, plan: Mapping[str, NodePlan]) -> Sequence[GraphPass]:
        """Forms that ONNX Runtime's optimizers leave as planned; nothing else changes."""
        return (SpreadNorm(), SpreadBias(plan), HoldFloat(plan))

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
        """See `gate`; where this machine is not of the variant's kind, the graph that the variant runs, untimed."""
        config, host = config or SessionConfig(), self.host
        config = replace(config, entries=(*config.entries, *host.entries))
        seen = gate(model, plan, config, feed if host.indicative else None)
        expected = "int8 activations" if VARIANTS[self.variant].stored.qtype.signed else ""
        return replace(seen, findings=tuple(finding for finding in seen.findings if finding.trap != expected))


BACKENDS = {name: OnnxRuntime(name) for name in VARIANTS}
BACKEND = BACKENDS["vnni"]
