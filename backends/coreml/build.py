"""Makes the package of a compile, reads it back, and says what it is worth."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qcompiler import ir
from qcompiler.backends.base import Job
from qcompiler.backends.conformance import Conformance
from qcompiler.backends.coreml.convert import Converted, Settings, convert
from qcompiler.backends.coreml.evaluate import Package
from qcompiler.backends.coreml.interface import Interface
from qcompiler.backends.coreml.overflow import Overflow, overflows
from qcompiler.backends.coreml.package import save, size
from qcompiler.backends.coreml.variants import SLOW, Variant
from qcompiler.backends.coreml.verify import NAMES, Verified, made_up, verified, write_names
from qcompiler.quant import QuantPlan

SAMPLES = 4
FLOOR_DB = {True: 30.0, False: 100.0}
"""Under it a value counts as parting, in float16 and in float32; quantized activations flip by a step: 20."""
FAIL_DB = {True: 10.0, False: 60.0}
"""An output under it fails the gate: the package does not compute what was planned."""
SUBNORMAL = 6.1e-5
CANNOT = (
    "the saved package was evaluated in NumPy; what kernels of a device compute, where operations run and how long "
    "they take was not: run check_on_mac.py beside the package"
)
SCRIPT = "check_on_mac.py"


@dataclass(frozen=True)
class Gate:
    """What became of a build, before it is put into words."""

    package: Package
    bytes: int
    checked: Verified
    overflow: tuple[Overflow, ...]
    notes: tuple[str, ...]


def build(job: Job, variant: Variant, wishes: Interface, metadata: Mapping[str, str]) -> Conformance:
    """Writes NAME.mlpackage, the map of names and the script for a Mac.

    Raises:
        ModelError: nodes without a form in Core ML, or coremltools refuses the whole.
        UsageError: the interface does not fit the model.
        DataError: a sample does not fit.
    """
    half = job.precision not in ("fp32", "float")
    large = tuple(overflows(job.model, job.samples)) if half and job.samples is not None else ()
    keep = frozenset(name for found in large for name in found.stays)
    job.tell("convert", 0, None)
    made = convert(job.model, Settings(variant.os, half, keep, metadata), wishes)
    path = job.folder / f"{job.name}.mlpackage"
    save(made.model, path)
    write_names(job.folder / NAMES, made.names)
    shutil.copyfile(Path(__file__).with_name("mac_script.py"), job.folder / SCRIPT)
    job.tell("evaluate", 0, None)
    package = Package.load(path)
    checked = check(job, package, made, wishes, half)
    notes = (*said(job, variant, half, large), *made.notes)
    return conformance(job, variant, Gate(package, size(path), checked, large, notes), half)


def check(job: Job, package: Package, made: Converted, wishes: Interface, half: bool) -> Verified:
    """The package beside ONNX Runtime on the same graph."""
    floor = FLOOR_DB[half or bool(wishes.states)]
    if any(op == "quantize" for op in package.ops):
        floor = min(floor, 20.0)
    source = job.samples if job.samples is not None else [made_up(job.model, default_shapes(job.model, wishes))]
    return verified(job.model, package, clean(made), source, samples=SAMPLES, floor_db=floor)


def clean(made: Converted) -> dict[str, str]:
    """Name in ONNX by name in the package."""
    return {name: original for original, name in made.names.items()}


def default_shapes(model: ir.Model, wishes: Interface) -> dict[str, tuple[int, ...]]:
    """A shape of each input."""
    found = {}
    for tensor in model.inputs:
        if tensor.name in wishes.ranges:
            found[tensor.name] = wishes.ranges[tensor.name][1]
        elif tensor.name in wishes.caches:
            state = wishes.caches[tensor.name]
            found[tensor.name] = tuple(n // 4 if axis == state.axis else n for axis, n in enumerate(state.shape))
        elif tensor.name in wishes.choices:
            found[tensor.name] = wishes.choices[tensor.name][0]
        else:
            found[tensor.name] = tuple(int(d) for d in tensor.shape or ())
    return found


def said(job: Job, variant: Variant, half: bool, large: tuple[Overflow, ...]) -> list[str]:
    """What a reader should know, but for the check."""
    notes = [CANNOT]
    if half and job.samples is None:
        notes.append("without data nothing says whether values leave float16; give --data")
    notes += [
        f"{found.tensor} reaches {found.largest:.3g}, {found.why} for {', '.join(found.stays[:4])}"
        f"{' and others' if len(found.stays) > 4 else ''}: float32 there"
        for found in large
    ]
    if (job.precision, variant.unit) in SLOW:
        notes.append(
            f"{job.precision} may be slower than fp16 on {variant.unit}: activations are dequantized as it runs"
        )
    small = tiny_scales(job.plan)
    if small:
        notes.append(
            f"{len(small)} scales are under {SUBNORMAL:g}, subnormal in float16; a device may take them for 0: "
            f"{', '.join(small[:4])}"
        )
    dense = [name for name, node in job.plan.nodes.items() if node.precision == "float" and has_weight(job, name)]
    if dense and job.precision not in ("fp16", "fp32", "float"):
        shown = "; ".join(f"{name} ({job.plan.nodes[name].reason})" for name in dense[:4])
        notes.append(f"{len(dense)} nodes with weights stay float: {shown}{' ...' if len(dense) > 4 else ''}")
    return notes


def has_weight(job: Job, name: str) -> bool:
    """Whether a node has a constant of rank 2 or more with more than 2048 numbers."""
    node = next((n for n in job.planned.nodes if n.name == name), None)
    if node is None:
        return False
    return any(isinstance(t, ir.Constant) and len(t.shape) > 1 and ir.nbytes(t) > 4 * 2048 for t in node.inputs)


def tiny_scales(plan: QuantPlan) -> list[str]:
    """Sites with a scale that is subnormal in float16."""
    return [
        str(site)
        for site, decision in plan.quantized()
        if decision.encoding is not None
        and decision.encoding.codebook is None
        and bool((decision.encoding.scale < SUBNORMAL).any())
    ]


def conformance(job: Job, variant: Variant, gate: Gate, half: bool) -> Conformance:
    """The record of a build."""
    ops, checked = gate.package.ops, gate.checked
    quantized = sum(node.precision != "float" for node in job.plan.nodes.values())
    failures = []
    if not checked.worst_db >= FAIL_DB[half]:
        where = checked.first
        at = f"; they part at {where.op} {where.node!r}" if where is not None else ""
        failures.append(
            f"the package gives outputs of {checked.worst_db:.1f} dB beside ONNX Runtime on the same graph{at}"
        )
    notes = list(gate.notes)
    if checked.first is not None and not failures:
        part = checked.first
        notes.append(
            f"the package parts from ONNX Runtime first at {part.op} {part.node!r}: {part.sqnr_db:.1f} dB "
            f"on {part.tensor!r}"
        )
    facts: dict[str, Any] = {
        "minimum_os": f"iOS {variant.os}",
        "unit": variant.unit,
        "compute": "float16" if half else "float32",
        "package_bytes": gate.bytes,
        "evaluated": checked.facts(),
        "float32_nodes": sorted({name for found in gate.overflow for name in found.stays}),
    }
    return Conformance(
        ops, quantized, len(job.plan.nodes) - quantized, ops.get("quantize", 0) + ops.get("dequantize", 0),
        failures=tuple(failures), notes=tuple(notes), facts=facts, compiled=False, executed=False,
    )  # fmt: skip
