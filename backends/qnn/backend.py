"""The QNN backend: the table of the chips asked for, the rewrites before it, the gate."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from qcompiler import ir
from qcompiler.analysis.compare import Comparison
from qcompiler.backends.base import Conditioning, Host, Job, Tell, Untimed
from qcompiler.backends.conformance import Conformance
from qcompiler.backends.qnn.cache import store
from qcompiler.backends.qnn.compile import Settings
from qcompiler.backends.qnn.conditions import named
from qcompiler.backends.qnn.float16 import Float16Islands
from qcompiler.backends.qnn.gate import gate
from qcompiler.backends.qnn.layers import compare
from qcompiler.backends.qnn.runtime import versions
from qcompiler.backends.qnn.socs import Soc, parse
from qcompiler.backends.qnn.spec import U16, table
from qcompiler.data import Sample
from qcompiler.errors import MissingExtraError, UsageError
from qcompiler.passes.condition.gelu_to_sigmoid import GeluToSigmoid
from qcompiler.passes.condition.norm_bias import NormBias
from qcompiler.passes.condition.pad_to_concat import PadToConcat
from qcompiler.passes.condition.square_to_mul import SquareToMul
from qcompiler.passes.lower.cache import Stored
from qcompiler.passes.plan.encode import Ranges
from qcompiler.pipeline import GraphPass
from qcompiler.quant import Precision, QuantPlan
from qcompiler.targets import TargetSpec

HOST = Host("latency is not measured: there is no Hexagon processor here", indicative=False)


@dataclass(frozen=True)
class Qnn(Untimed):
    """See `qcompiler.backends.base.Backend`.

    Attributes:
        variant: chips, by name, number or architecture, with commas between.
        emulate: how many samples the binary is run on in emulation.
        allow: patterns of nodes that may run on the CPU, or in float16 against the plan.
        a16: patterns of nodes that get 16-bit activations in precision mixed.
        embed: one ONNX file that holds the binary.
        blocks: w4a16 stores matrices of products with a scale for each block of a column.
        native_gelu: with 16-bit activations Gelu stays one operator.
        kv_cache: how a cache of keys and values is stored: int8, a byte with a fixed scale (see `cache`); empty for
            float.
    """

    variant: str = "sm8650"
    emulate: int = 8
    allow: tuple[str, ...] = ()
    a16: tuple[str, ...] = ()
    embed: bool = False
    blocks: bool = False
    native_gelu: bool = False
    kv_cache: str = ""

    def __post_init__(self) -> None:
        if self.emulate < 0:
            raise UsageError("must not be negative", where="--emulate")
        if self.kv_cache not in ("", "int8"):
            said = f"no cache is stored as {self.kv_cache}: activations are integers of 8 or 16 bits there"
            raise UsageError(said, where="--kv-cache", hint="known: int8")

    @property
    def socs(self) -> tuple[Soc, ...]:
        """The chips."""
        return parse(self.variant)

    @property
    def arch(self) -> int:
        """The lowest of their architectures: what it cannot do is done for none of them."""
        return min(soc.arch for soc in self.socs)

    @property
    def spec(self) -> TargetSpec:
        """The table for the lowest architecture."""
        chosen = named(self.a16) if self.a16 else None
        return table(self.arch, chosen, blocks=self.blocks, cache=bool(self.kv_cache))

    @property
    def host(self) -> Host:
        """No machine of this kind is at hand: the emulator's clock is not the processor's."""
        return HOST

    @property
    def version(self) -> str:
        """Version of the QNN libraries; empty where they are not installed."""
        known = versions()
        return "" if isinstance(known, str) else known["qnn"]

    def condition(self, precision: Precision, keep_float: tuple[str, ...]) -> Conditioning:
        """Forms that the provider knows, and whose kernels keep the bits."""
        gelu = GeluToSigmoid(U16, keep_float)
        wide = (gelu,) if precision.endswith("a16") and not self.native_gelu else ()
        return Conditioning((NormBias(), SquareToMul(), PadToConcat(), *wide), gelu.given)

    def wished(self, precision: str, model: ir.Model, *, data: bool) -> Sequence[Precision]:
        """For `auto` 8 bits, 16 bits, or what a search puts side by side; float16 where there is no data."""
        if precision != "auto":
            return [precision] if precision in self.spec.schemes else []
        if data:
            return ["w8a8", "w8a16", "mixed"]
        return ["fp16"] if "fp16" in self.spec.schemes else []

    def legalise(self, plan: QuantPlan, stats: Ranges | None, precision: Precision) -> Sequence[GraphPass]:
        """What stays float among quantized nodes is written in float16; a float model stays as it is."""
        if not any(True for _ in plan.quantized()):
            return ()
        return (Float16Islands(frozenset(name for name, node in plan.nodes.items() if node.precision == "float")),)

    def layers(self, reference: ir.Model, model: ir.Model, samples: Iterable[Sample], tell: Tell) -> Comparison:
        """See `layers.compare`; on the first chip."""
        known = versions()
        if isinstance(known, str):
            raise MissingExtraError(f"nothing can be emulated: {known}")
        return compare(reference, model, samples, self.socs[0], tell)

    def build(self, job: Job) -> Conformance:
        """See `gate`.

        Raises:
            UsageError: several shapes do not go with several chips, or into the ONNX file.
        """
        if job.others and (self.embed or len(self.socs) > 1):
            what = "--embed" if self.embed else "several chips"
            raise UsageError(f"several shapes share a binary file, which does not go with {what}", where="--shape")
        shipped, notes = store(job.model) if self.kv_cache else Stored(job.model)
        others = [store(other).model if self.kv_cache else other for other in job.others]
        job, settings = replace(job, model=shipped, others=others), Settings(self.socs, embed=self.embed)
        seen = gate(job, settings, self.spec, emulate=self.emulate, allow=self.allow)
        return replace(seen, notes=(*seen.notes, *notes))


def backend(variant: str = "") -> Qnn:
    """The backend of one or several chips; an unknown one is a UsageError."""
    parse(variant)
    return Qnn(variant or "sm8650")
