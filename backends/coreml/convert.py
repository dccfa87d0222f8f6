"""From our graph to a Core ML model: MIL operations, then coremltools' own passes, in float16 or float32."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from qcompiler import ir
from qcompiler._version import __version__
from qcompiler.backends.coreml.interface import Interface, symbolic, types
from qcompiler.backends.coreml.lower.graph import lower, placeholder
from qcompiler.backends.coreml.lower.scope import Program
from qcompiler.backends.coreml.lower.state import Cache
from qcompiler.backends.coreml.names import CACHE_LENGTH, IMAGE, STATE
from qcompiler.backends.coreml.states import LENGTH
from qcompiler.backends.coreml.tools import builder, coremltools, mil, quietly
from qcompiler.errors import InternalError, ModelError, QCompilerError

EXACT_OFF = ("common::distributive_quantized_binary_op_scale_normalization",)
"""Rewrites scales around add in a way that may flip a rounding; off, so that the package is what was planned."""


@dataclass(frozen=True, eq=False)
class Converted:
    """A model in memory.

    Attributes:
        model: of coremltools.
        names: clean name by original one, for every value of the graph.
        owner: name of our node by name of the MIL operation.
        notes: what a reader should know.
    """

    model: Any
    names: Mapping[str, str]
    owner: Mapping[str, str]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Settings:
    """How to convert.

    Attributes:
        os: the oldest iOS: 16, 17 or 18.
        half: float16, else float32.
        keep: nodes that stay float32 among float16.
        metadata: author, license, and others by name.
        fused: attention as one operator, where the OS has it.
    """

    os: int = 18
    half: bool = True
    keep: frozenset[str] = frozenset()
    metadata: Mapping[str, str] = field(default_factory=dict)
    fused: bool = True


@quietly
def convert(model: ir.Model, settings: Settings, wishes: Interface) -> Converted:
    """Lowers and converts.

    Raises:
        ModelError: nodes without a form in Core ML, all at once; or coremltools refuses the whole.
        UsageError: open dimensions without bounds.
    """
    ct = coremltools()
    program = Program(settings.os, half=settings.half, keep=settings.keep, fused=settings.fused)
    outer = {tensor.name: program.names(tensor.name) for tensor in [*model.inputs, *model.outputs]}
    dims = symbolic(model, wishes)
    given = {t.name: placeholder(t, dims[t.name], outer[t.name]) for t in model.inputs if t.name in dims}
    length = program.names.fresh(LENGTH) if any(s.axis is not None for s in wishes.states) else ""
    kept = kept_states(wishes, outer, length)
    target = getattr(ct.target, f"iOS{settings.os}")
    try:
        whole = mil().Program()
        placeholders = {**{outer[n]: p for n, p in given.items()}, **kept}
        with mil().Function(placeholders, opset_version=target) as function:
            inputs = {name: function.inputs[outer[name]] for name in given}
            program.caches = {
                s.past: Cache(
                    s, function.inputs[outer[s.past]], function.inputs[length] if s.axis is not None else None
                )
                for s in wishes.states
            }
            found = lower(model, program, inputs)
            function.set_outputs([value for _, value in found])
        whole.add_function("main", function)
        made = ct.convert(
            whole, convert_to="mlprogram", minimum_deployment_target=target, skip_model_load=True,
            compute_precision=precision(settings, program.owner), pass_pipeline=pipeline(),
            inputs=[*types(model, wishes, dims, outer), *lengths(length)] if special(wishes) else None,
            classifier_config=classifier(wishes, outer, model),
        )  # fmt: skip
    except QCompilerError:
        raise
    except Exception as error:  # coremltools raises whatever its checks lead to
        text = " ".join(str(error).split())[:300]
        raise ModelError(f"coremltools refuses the model: {text or type(error).__name__}") from error
    describe(made, model, program, settings, wishes, length)
    return Converted(made, dict(program.names.clean), dict(program.owner), tuple(dict.fromkeys(program.notes)))


def kept_states(wishes: Interface, outer: Mapping[str, str], length: str) -> dict[str, Any]:
    """The MIL inputs of states, and the one that says how much of them is taken."""
    half, whole = mil().types.fp16, mil().types.int32
    found = {outer[s.past]: builder().state_tensor_placeholder(s.shape, half) for s in wishes.states}
    for name, value in found.items():
        value.set_name(name)
    return found if not length else {**found, length: builder().placeholder(shape=(1,), dtype=whole, name=length)}


def lengths(name: str) -> list[Any]:
    """The type of the input that says how much of the states is taken."""
    return [coremltools().TensorType(name=name, shape=(1,), dtype=np.int32)] if name else []


def special(wishes: Interface) -> bool:
    """Whether inputs differ from plain arrays of one shape."""
    return bool(wishes.images or wishes.ranges or wishes.choices)


def precision(settings: Settings, owner: Mapping[str, str]) -> Any:
    """float16 but for what is kept, or float32."""
    ct = coremltools()
    if not settings.half:
        return ct.precision.FLOAT32
    if not settings.keep:
        return ct.precision.FLOAT16
    return ct.transform.FP16ComputePrecision(op_selector=lambda op: owner.get(op.name) not in settings.keep)


def pipeline() -> Any:
    """coremltools' passes without those that move what was planned."""
    found = coremltools().PassPipeline()
    found.remove_passes(set(EXACT_OFF))
    return found


def classifier(wishes: Interface, outer: Mapping[str, str], model: ir.Model) -> Any:
    """Labels for the first output."""
    if not wishes.labels:
        return None
    scores = model.outputs[0].name
    return coremltools().ClassifierConfig(
        list(wishes.labels), predicted_feature_name="label", predicted_probabilities_output=outer[scores]
    )


def describe(
    made: Any, model: ir.Model, program: Program, settings: Settings, wishes: Interface, length: str
) -> None:  # fmt: skip
    """Names that had to change, what states stand for, author and license, and no dates."""
    spec = made.get_spec()
    interface = [tensor.name for tensor in [*model.inputs, *model.outputs]]
    written = spec.description.metadata
    written.userDefined.clear()
    entries = {"com.qcompiler.version": __version__, **program.names.changed(interface)}
    for state in wishes.states:
        entries[STATE + program.names(state.past)] = json.dumps([state.present, state.axis])
    for name, image in wishes.images.items():
        entries[IMAGE + program.names(name)] = json.dumps([image.scale, image.bias or [0.0]])
    if length:
        entries[CACHE_LENGTH] = length
    own = {
        "author": "author",
        "license": "license",
        "version": "versionString",
        "short_description": "shortDescription",
    }
    for key, value in settings.metadata.items():
        if key in own:
            setattr(written, own[key], value)
        else:
            entries[key] = value
    for key in sorted(entries):
        written.userDefined[key] = entries[key]
    if len(set(program.names.clean.values())) != len(program.names.clean):
        raise InternalError("two values of a package have one name")
    made._spec.CopyFrom(spec)
