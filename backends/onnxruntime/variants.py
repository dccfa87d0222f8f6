"""What the hardware changes: the table and the numbers by variant, and whether this machine can measure them.

    vnni    uint8 x int8 in 32 bits; measured
    avx2    the same kernels add pairs of products in int16, and saturate: weights must keep them small
            (`passes.plan.avoid_saturation`); rules and speeds are taken from vnni
    arm64   int8 x int8: with dot products the only pair whose kernel multiplies signed values as they stand (SDOT);
            zero points of ranges from 0 are -128. Activations that the runtime quantizes are uint8 in every variant,
            since DynamicQuantizeLinear knows no other type; rules and speeds are taken from vnni

The rules of avx2 and arm64 are as documented, not measured. docs: ONNX Runtime, "Quantize ONNX models", data type
selection (VPMADDUBSW saturates; no such issue with VNNI and on Arm); microsoft/onnxruntime pull requests 9902 (kernels
by type on ARM64: U8S8 flips the bits of one operand, S8S8 has SDOT), 9961 (Q and DQ of int8 become integer operators
on Arm).

Timing avx2 elsewhere with `session.x64quantprecision`, kernels without VNNI, was tried: ONNX Runtime 1.31 refuses such
graphs ("Attempt to replace the existing tensor").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from qcompiler.analysis.cpu import cpu_flags
from qcompiler.backends.base import Host
from qcompiler.backends.onnxruntime.spec import SPEC, U8
from qcompiler.quant import Precision, QSpec
from qcompiler.quant.qtype import INT8
from qcompiler.targets import Activation, Operand, OpRule, Output, TargetSpec, Weight

S8 = QSpec(INT8)
VNNI = frozenset({"avx512_vnni", "avx_vnni", "avx_vnni_int8"})
X86 = frozenset({"x86_64", "AMD64"})
ARM = frozenset({"aarch64", "arm64"})

SATURATES = "weights whose products fit in int16 in pairs (docs: Quantize ONNX models); as measured on vnni: "
SIGNED = "int8 x int8 (pull requests 9902, 9961); as measured on vnni: "
AS_VNNI = "as measured on vnni: "


@dataclass(frozen=True)
class Variant:
    """One kind of hardware.

    Attributes:
        spec: the table.
        stored: how static activations are stored.
        machines: architectures that are of the kind.
        needs, lacks: instruction sets of which it has one, and none.
        indicative: times on another machine rank candidates as they rank here, roughly.
        entries: session options with which another machine builds the graph that this one runs; without them x86 turns
            int8 into uint8, and ONNX Runtime 1.31 then refuses some graphs (types of Q and zero point differ).
    """

    spec: TargetSpec
    stored: QSpec
    machines: frozenset[str]
    needs: frozenset[str] = frozenset()
    lacks: frozenset[str] = frozenset()
    indicative: bool = True
    entries: tuple[tuple[str, str], ...] = ()

    def is_here(self, flags: Sequence[str]) -> bool:
        """Whether a machine with this architecture and these instruction sets is of the kind."""
        found = set(flags)
        return bool(self.machines & found and (not self.needs or self.needs & found) and not self.lacks & found)

    def host(self, name: str, flags: Sequence[str] | None = None) -> Host:
        """What times on this machine say about the variant."""
        flags = cpu_flags() if flags is None else flags
        if self.is_here(flags):
            return Host()
        indicative = self.indicative and bool(X86 & set(flags))
        if not indicative:
            said = "times on this machine would say nothing; what the table quantizes is shipped if it is accurate"
            return Host(f"speed for {name} is modelled, not measured: {said}", False, self.entries)
        said = "candidates are ranked by times on this machine; on the target they may rank otherwise"
        return Host(f"speed for {name} is modelled, not measured: {said}", True, self.entries)


def retyped(spec: TargetSpec, stored: QSpec, source: str) -> TargetSpec:
    """The table with static activations stored as `stored`; `source` is said of what differs from vnni."""

    def turned(operand: Operand | Output) -> Operand | Output:
        if not isinstance(operand, Activation):
            return operand
        return Activation(tuple(stored if option == U8 else option for option in operand.options))

    def rule(old: OpRule) -> OpRule:
        inputs: Mapping[int, Operand] = {p: turned(o) for p, o in old.inputs.items()}  # type: ignore[misc]
        differs = not old.dynamic if stored != U8 else any(isinstance(o, Weight) for o in old.inputs.values())
        said = (source if differs else AS_VNNI) + old.source
        return replace(old, inputs=inputs, output=turned(old.output), source=said)  # type: ignore[arg-type]

    def table(tables: Mapping[Precision, tuple[OpRule, ...]]) -> Mapping[Precision, tuple[OpRule, ...]]:
        return MappingProxyType({precision: tuple(map(rule, rules)) for precision, rules in tables.items()})

    return replace(spec, schemes=table(spec.schemes), beside=table(spec.beside))


VARIANTS = MappingProxyType(
    {
        "vnni": Variant(SPEC, U8, X86, needs=VNNI),
        "avx2": Variant(replace(retyped(SPEC, U8, SATURATES), int16_pairs=True), U8, X86, lacks=VNNI),
        # int8 activations on x86 run at 0.3 to 0.8 times float (fact sheet, section 3)
        "arm64": Variant(
            retyped(SPEC, S8, SIGNED), S8, ARM, indicative=False, entries=(("session.qdqisint8allowed", "1"),)
        ),
    }
)
