"""The Core ML backend: from the plan to an .mlpackage that is read back and evaluated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from qcompiler import ir
from qcompiler.backends.base import Host, Job, Untimed
from qcompiler.backends.conformance import Conformance
from qcompiler.backends.coreml.build import build
from qcompiler.backends.coreml.interface import Image, interface, read_labels
from qcompiler.backends.coreml.lower import unsupported
from qcompiler.backends.coreml.spec import SPECS
from qcompiler.backends.coreml.states import parsed
from qcompiler.backends.coreml.tools import coremltools
from qcompiler.backends.coreml.variants import Variant
from qcompiler.errors import ModelError, UsageError
from qcompiler.passes.plan.encode import Ranges
from qcompiler.pipeline import GraphPass
from qcompiler.quant import Precision, QuantPlan
from qcompiler.targets import TargetSpec

AUTO = ("w8", "fp16")
"""What `auto` tries: smaller at no known cost on any unit; int8 activations and 4 bits are for who asks."""
FIRST_WITH_STATES = 18
INT8 = (("session.qdqisint8allowed", "1"),)
"""Without it ONNX Runtime on x86 turns int8 into uint8, and 1.31 then refuses some graphs."""


@dataclass(frozen=True)
class CoreMl(Untimed):
    """See `qcompiler.backends.base.Backend`.

    Attributes:
        variant: oldest OS and compute unit.
        image: inputs that are fed with pixels, see `interface`.
        labels: a file with the classes.
        enumerate: inputs with a few fixed shapes.
        state: caches, see `states`.
        metadata: entries, KEY=VALUE; author, license, version and short_description have fields of their own.
    """

    variant: str = "ios18-ane"
    image: tuple[str, ...] = ()
    labels: str = ""
    enumerate: tuple[str, ...] = ()
    state: tuple[str, ...] = ()
    metadata: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("image", "enumerate", "state", "metadata"):
            value = getattr(self, name)
            object.__setattr__(self, name, (value,) if isinstance(value, str) else tuple(map(str, value)))
        for text in self.image:
            Image.parse(text)
        for text in self.metadata:
            if "=" not in text:
                raise UsageError(f"{text!r} is not KEY=VALUE", where="--metadata")
        read_labels(self.labels)
        for text in self.state:
            parsed(text)
        if self.state and self.parsed.os < FIRST_WITH_STATES:
            hint = f"instead: coreml:ios{FIRST_WITH_STATES}-{self.parsed.unit}"
            raise UsageError(f"states came with iOS {FIRST_WITH_STATES}", where="--state", hint=hint)

    @property
    def parsed(self) -> Variant:
        """The variant in parts."""
        return Variant.parse(self.variant)

    @property
    def spec(self) -> TargetSpec:
        """The table of the OS; who enumerates shapes or names caches sees to the sizes of all inputs."""
        table = SPECS[self.parsed.os]
        return replace(table, shapes="any") if self.enumerate or self.state else table

    @property
    def host(self) -> Host:
        """No machine but a Mac runs packages."""
        said = (
            "no time on this machine says anything of an Apple device; what the table quantizes is shipped if accurate"
        )
        return Host(f"speed for {self.variant} is not measured: {said}", False, INT8)

    @property
    def version(self) -> str:
        """Version of coremltools."""
        return str(coremltools().__version__)

    def wished(self, precision: str, model: ir.Model, *, data: bool) -> Sequence[Precision]:
        """What the OS and the unit take; nodes without a form are reported here, before any work.

        Raises:
            MissingExtraError: coremltools is not installed.
            ModelError: naming the nodes.
            UsageError: with the rule that speaks against the precision.
        """
        coremltools()
        found = unsupported(model)
        if found:
            more = f"; and {len(found) - 8} more" if len(found) > 8 else ""
            shown = "; ".join(map(str, found[:8]))
            raise ModelError(
                f"{len(found)} of {sum(1 for _ in model.all_nodes())} nodes have no form in Core ML: {shown}{more}"
            )
        interface(model, self.image, self.labels, {}, self.enumerate, self.state)
        refusal = self.parsed.refusal(precision)
        if refusal is not None:
            raise UsageError(refusal[0], where="--precision", hint=f"instead: {refusal[1]}")
        return AUTO if precision == "auto" else () if precision == "float" else (precision,)

    def legalise(self, plan: QuantPlan, stats: Ranges | None, precision: Precision) -> Sequence[GraphPass]:
        """Nothing: Q and DQ stand where the plan has them."""
        return ()

    def build(self, job: Job) -> Conformance:
        """See `build.build`."""
        wishes = interface(job.model, self.image, self.labels, job.ranges, self.enumerate, self.state)
        entries = dict(text.split("=", 1) for text in self.metadata)
        return build(job, self.parsed, wishes, entries)


def backend(variant: str = "") -> CoreMl:
    """The backend for an OS and a unit.

    Raises:
        UsageError: an unknown one.
    """
    return CoreMl(Variant.parse(variant).name)
