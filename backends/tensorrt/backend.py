"""The TensorRT backend: the table, 16-bit floats, legality, the gate of the real builder, and what ships."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from qcompiler import ir
from qcompiler.backends.base import Host, Job, Untimed
from qcompiler.backends.conformance import Conformance
from qcompiler.backends.tensorrt import build as builder
from qcompiler.backends.tensorrt.attention import has_attention
from qcompiler.backends.tensorrt.gate import gate
from qcompiler.backends.tensorrt.legal import Legalise
from qcompiler.backends.tensorrt.put import check_names, parsed
from qcompiler.backends.tensorrt.simulate import simulated
from qcompiler.backends.tensorrt.soften_masks import SoftenMasks
from qcompiler.backends.tensorrt.spec import NO_CACHE, schemes, spec
from qcompiler.backends.tensorrt.to_half import ToHalf
from qcompiler.backends.tensorrt.variants import GPUS
from qcompiler.errors import UsageError
from qcompiler.passes.lower.cache import QuantizeCache, Stored, observed, store
from qcompiler.passes.plan.encode import Ranges
from qcompiler.passes.plan.stretched import Statistics
from qcompiler.pipeline import GraphPass
from qcompiler.quant import Precision, QuantPlan
from qcompiler.targets import TargetSpec

NO_FUSION = ("session.disable_quant_qdq", "1")
"""ONNX Runtime would compute in integers of its own between Q and DQ; TensorRT's arithmetic is float there."""


@dataclass(frozen=True)
class TensorRT(Untimed):
    """See `qcompiler.backends.base.Backend`.

    Attributes:
        variant: the GPU.
        engine: keep the engine that the gate builds.
        allow_float: names of nodes that may compute in float though they were planned in fewer bits.
        allow_fallback: any node may.
        put: nodes that have a precision of their own in `mixed`, "PATTERN=PRECISION" each.
        kv_cache: how a cache of keys and values is stored, int8 or fp8, empty for float (see `passes.lower.cache`).
    """

    variant: str = "sm89"
    engine: bool = False
    allow_float: tuple[str, ...] = ()
    allow_fallback: bool = False
    put: tuple[str, ...] = ()
    kv_cache: str = ""

    def __post_init__(self) -> None:
        if self.kv_cache not in ("", *self._caches):
            why = NO_CACHE.get(self.kv_cache)
            said = f"no cache is stored as {self.kv_cache}{': ' if why else ''}{why or ''}"
            raise UsageError(said, where="--kv-cache", hint=f"known: {', '.join(self._caches)}")
        for name in ("allow_float", "put"):  # a recipe gives lists
            object.__setattr__(self, name, tuple(getattr(self, name)))
        parsed(self.put, schemes(GPUS[self.variant]))

    @property
    def _caches(self) -> tuple[str, ...]:
        return ("int8", "fp8") if GPUS[self.variant].fp8 else ("int8",)

    @property
    def _fixed(self) -> bool:
        """Whether scales of the cache are fixed: the builder takes no computed ones of FP8."""
        return self.kv_cache == "fp8"

    @property
    def spec(self) -> TargetSpec:
        """The table of the variant."""
        table = spec(self.variant, self.put)
        return replace(table, observes=partial(observed, fixed=self._fixed)) if self.kv_cache else table

    @property
    def host(self) -> Host:
        """This machine has no such GPU, as far as we know: nothing is timed."""
        return Host("speed is not measured: engines run on the GPU alone", False, (NO_FUSION,))

    @property
    def version(self) -> str:
        """Version of the builder; empty where it is not installed."""
        return builder.version()

    def wished(self, precision: str, model: ir.Model, *, data: bool) -> Sequence[Precision]:
        """For `auto` int8, or fp8 where that serves an attention; with float16 in case it is not accurate enough.

        Raises:
            UsageError: `put` names nothing, or the precision is another one.
        """
        check_names(parsed(self.put, schemes(GPUS[self.variant])), precision, model)
        if precision == "float":
            return ()
        if precision != "auto":
            return (precision,)
        best = "fp8" if GPUS[self.variant].fp8 and has_attention(model) else "int8"
        return (best, "fp16") if data else ("fp16",)

    def legalise(self, plan: QuantPlan, stats: Ranges | None, precision: Precision) -> Sequence[GraphPass]:
        """Repairs and refusals; in between 16-bit floats for everything that is not quantized."""
        legal = Legalise(GPUS[self.variant])
        if precision == "float":
            return (legal,)
        masks, known = SoftenMasks(), stats if isinstance(stats, Statistics) else None
        cache = (QuantizeCache(self.kv_cache, known, self._fixed),) if self.kv_cache else ()
        return (legal, masks, ToHalf(precision == "bf16", stats, masks.values), *cache)

    def simulate(self, model: ir.Model) -> ir.Model:
        """See `simulate`."""
        return simulated(model)

    def build(self, job: Job) -> Conformance:
        """See `gate`."""
        shipped, notes = store(job.model, self.kv_cache) if self.kv_cache else Stored(job.model)
        seen = gate(self, replace(job, model=shipped))
        return replace(seen, notes=(*seen.notes, *notes))


def backend(variant: str = "") -> TensorRT:
    """The backend of a variant; an unknown one is a UsageError."""
    return TensorRT(spec("sm89").variant(variant))
