"""The ONNX Runtime backend: the table, the rewrites that it profits from, the gate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from qcompiler import ir
from qcompiler.analysis import SessionConfig
from qcompiler.analysis.session import MODEL, Checked, mark, write_session
from qcompiler.backends.base import Conditioning, Host, Job
from qcompiler.backends.conformance import Conformance
from qcompiler.backends.onnxruntime.condition import condition
from qcompiler.backends.onnxruntime.gate import Feed, gate
from qcompiler.backends.onnxruntime.hold_float import HoldFloat
from qcompiler.backends.onnxruntime.inspect import origin_of
from qcompiler.backends.onnxruntime.sessions import sessions
from qcompiler.backends.onnxruntime.spec import SPEC
from qcompiler.backends.onnxruntime.spread_bias import SpreadBias
from qcompiler.backends.onnxruntime.spread_norm import SpreadNorm
from qcompiler.backends.onnxruntime.variants import VARIANTS
from qcompiler.errors import UsageError
from qcompiler.passes.plan.encode import Ranges
from qcompiler.pipeline import GraphPass
from qcompiler.quant import NodePlan, Precision, QuantPlan
from qcompiler.targets import TargetSpec


@dataclass(frozen=True)
class OnnxRuntime:
    """See `qcompiler.backends.base.Backend`.

    Attributes:
        variant: the hardware.
        optimized: write ONNX Runtime's optimised graph beside the model, as a cache for this version and this CPU.
    """

    variant: str = "vnni"
    optimized: bool = False

    def __post_init__(self) -> None:
        if self.optimized and self.host.modelled:
            said = f"the cache is made on the machine that uses it, and this one is not of the kind {self.variant!r}"
            raise UsageError(said, where="--optimized")

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

    def wished(self, precision: str, model: ir.Model, *, data: bool) -> Sequence[Precision]:
        """All for `auto`: what is fastest is measured."""
        return [name for name in self.spec.schemes if precision in ("auto", name)]

    def legalise(self, plan: QuantPlan, stats: Ranges | None, precision: Precision) -> Sequence[GraphPass]:
        """Forms that ONNX Runtime's optimizers leave as planned; nothing else changes."""
        return (SpreadNorm(), SpreadBias(plan.nodes), HoldFloat(plan.nodes))

    def simulate(self, model: ir.Model) -> ir.Model:
        """Itself."""
        return model

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

    def build(self, job: Job) -> Conformance:
        """`model.onnx` with its session: options that are not the default ones go into the metadata, too."""
        seen = self.inspect(job.model, job.plan.nodes, job.config, job.feed)
        mark(job.model, job.config)
        ir.save(job.model, job.folder / MODEL)
        write_session(job.folder, job.config, Checked(self.version, seen.ops), optimized=self.optimized)
        return seen


def backend(variant: str = "") -> OnnxRuntime:
    """The backend of a variant; an unknown one is a UsageError."""
    return OnnxRuntime(SPEC.variant(variant))
