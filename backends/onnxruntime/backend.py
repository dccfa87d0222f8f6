"""The ONNX Runtime backend: the table, the rewrites that it profits from, the gate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from qcompiler import ir
from qcompiler.analysis import SessionConfig
from qcompiler.analysis.session import MODEL, Checked, mark, write_session
from qcompiler.backends.base import Conditioning, Host, Job
from qcompiler.backends.conformance import Conformance
from qcompiler.backends.onnxruntime.condition import condition
from qcompiler.backends.onnxruntime.divide_by_root import DivideByRoot
from qcompiler.backends.onnxruntime.expert_tables import ExpertTables
from qcompiler.backends.onnxruntime.experts import UseQMoE
from qcompiler.backends.onnxruntime.fold_float8 import FoldFloat8
from qcompiler.backends.onnxruntime.gate import Feed, gate, loaded
from qcompiler.backends.onnxruntime.hold_float import HoldFloat
from qcompiler.backends.onnxruntime.inspect import origin_of
from qcompiler.backends.onnxruntime.nbits import UseNBits
from qcompiler.backends.onnxruntime.sessions import sessions
from qcompiler.backends.onnxruntime.spec import SPEC
from qcompiler.backends.onnxruntime.spread_bias import SpreadBias
from qcompiler.backends.onnxruntime.spread_norm import SpreadNorm
from qcompiler.backends.onnxruntime.variants import VARIANTS
from qcompiler.backends.onnxruntime.weight_formats import checked
from qcompiler.backends.onnxruntime.weight_rules import BASE, Blocks, check_average
from qcompiler.errors import UsageError
from qcompiler.passes.lower.cache import KINDS, QuantizeCache, Stored, observed, store
from qcompiler.passes.plan.eligible import KEPT
from qcompiler.passes.plan.encode import Ranges
from qcompiler.passes.plan.stretched import Statistics
from qcompiler.pipeline import GraphPass
from qcompiler.quant import NodePlan, Precision, QuantPlan
from qcompiler.targets import TargetSpec


@dataclass(frozen=True)
class OnnxRuntime:
    """See `qcompiler.backends.base.Backend`.

    Attributes:
        variant: the hardware.
        optimized: write ONNX Runtime's optimised graph beside the model, as a cache for this version and this CPU.
        bits, block, symmetric, table_bits, mixed_bits, format: how w4 stores weights, see `Blocks`; bits and block are
            what is usual for the format where they are 0.
        average_bits: of a weight in the layers of w4, each of which gets bits of its own; 0 for `bits` everywhere.
        portable: w4 as DequantizeLinear in blocks, which is standard ONNX, in place of ONNX Runtime's own operators.
        accuracy_level: of MatMulNBits; 4 computes in int8, 0 in float32.
        kv_cache: how a cache of keys and values is stored, empty for float (see `cache`).
    """

    variant: str = "vnni"
    optimized: bool = False
    bits: int = 0
    block: int = 0
    symmetric: bool = False
    table_bits: int = 8
    mixed_bits: bool = False
    format: str = "int"
    average_bits: float = 0.0
    portable: bool = False
    accuracy_level: int = 4
    kv_cache: str = ""

    def __post_init__(self) -> None:
        blocks = self.blocks  # refuses what no kernel takes
        if self.accuracy_level not in range(5):
            raise UsageError("is a number from 0 to 4", where="--accuracy-level")
        if self.kv_cache not in ("", *KINDS):
            said = f"no cache is stored as {self.kv_cache}"
            raise UsageError(said, where="--kv-cache", hint=f"known: {', '.join(KINDS)}")
        if self.portable and blocks.bits < 4:
            raise UsageError(f"no DequantizeLinear of ONNX Runtime reads {blocks.bits} bits", where="--portable")
        if self.average_bits:
            check_average(self.average_bits, self.bits, self.format, (BASE, *self._others))
        if self.optimized and self.host.modelled:
            said = f"the cache is made on the machine that uses it, and this one is not of the kind {self.variant!r}"
            raise UsageError(said, where="--optimized")

    @property
    def blocks(self) -> Blocks:
        """How w4 stores weights."""
        bits, size = checked(self.format, self.bits, self.block)
        return Blocks(bits, size, self.symmetric, self.table_bits, self.mixed_bits, self.format, not self.portable)

    @property
    def spec(self) -> TargetSpec:
        """The table of the variant, with weights in blocks as the options have them."""
        table, blocks = VARIANTS[self.variant].spec, self.blocks
        schemes = MappingProxyType({**table.schemes, "w4": blocks.rules})
        others = {f"w{bits}": replace(blocks, bits=bits).rules for bits in self._others}
        return replace(
            table, schemes=schemes, observes=observed if self.kv_cache else table.observes,
            relief=MappingProxyType({"w4": others} if others else {}), average_bits=self.average_bits,
        )  # fmt: skip

    @property
    def _others(self) -> tuple[int, ...]:
        """The bits that the search may give a layer of w4 besides; none where others are asked for."""
        if self.format != "int" or self.blocks.bits != BASE:
            return ()
        return (8,) if self.portable else (2, 3, 8)

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
        """What `condition` offers where convolutions are quantized, and `ExpertTables` where weights are in blocks."""
        if precision == "w4":
            return Conditioning((ExpertTables(self.blocks.size),))
        if precision not in ("int8", "mixed"):
            return Conditioning()
        return condition(keep_float, self.spec, VARIANTS[self.variant].stored)

    def wished(self, precision: str, model: ir.Model, *, data: bool) -> Sequence[Precision]:
        """All for `auto` but those that must be asked for: what is fastest is measured."""
        spec = self.spec
        return [
            name for name in spec.schemes if precision == name or (precision == "auto" and name not in spec.by_name)
        ]

    def legalise(self, plan: QuantPlan, stats: Ranges | None, precision: Precision) -> Sequence[GraphPass]:
        """Forms that ONNX Runtime's optimizers leave as planned; nothing else changes."""
        own: tuple[GraphPass, ...] = () if self.portable else (UseNBits(self.accuracy_level), FoldFloat8())
        if own and precision == "w4":
            kept = frozenset(name for name, node in plan.nodes.items() if node.reason.startswith(KEPT))
            blocks = self.blocks
            bits = blocks.bits if blocks.format == "int" else 0
            own = (*own, UseQMoE(bits, blocks.size, blocks.symmetric, self.accuracy_level, kept))
        known = stats if isinstance(stats, Statistics) else None
        cache = (QuantizeCache(self.kv_cache, known),) if self.kv_cache and precision != "float" else ()
        return (*own, *cache, DivideByRoot(), SpreadNorm(), SpreadBias(plan.nodes), HoldFloat(plan.nodes))

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
        if not job.on_disk:
            seen = self.inspect(job.model, job.plan.nodes, job.config, job.feed)
        mark(job.model, job.config)
        shipped, notes = store(job.model, self.kv_cache) if self.kv_cache else Stored(job.model)
        ir.save(shipped, job.folder / MODEL)
        if job.on_disk:
            seen = loaded(job.folder / MODEL, shipped, job.config)
        elif shipped is not job.model:
            loaded(job.folder / MODEL, shipped, job.config)
            seen = replace(seen, notes=(*seen.notes, *notes))
        write_session(job.folder, job.config, Checked(self.version, seen.ops), optimized=self.optimized)
        return seen


def backend(variant: str = "") -> OnnxRuntime:
    """The backend of a variant; an unknown one is a UsageError."""
    return OnnxRuntime(SPEC.variant(variant))
