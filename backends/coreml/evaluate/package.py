"""A saved package, read back from disk and run in NumPy, one operation after the other.

Values are computed in float32 and rounded to the type that the program declares, after each operation: that is how
float16 stores them, and it shows overflow. Any operation that is not known is an error, and so is a shape that is not
the declared one. What this cannot show: the order of sums and the accumulators of a device, its rounding of ties, which
unit runs what, and how fast.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from qcompiler.backends.coreml.evaluate import (
    compressed,
    elementwise,
    gather,
    linear,
    move,
    normalise,
    recurrent,
    sample,
)
from qcompiler.backends.coreml.evaluate.table import COMPUTES, Array
from qcompiler.backends.coreml.names import CACHE_LENGTH, KEY, STATE
from qcompiler.backends.coreml.tools import coremltools, mil
from qcompiler.errors import DataError, ModelError

MODULES = (compressed, elementwise, gather, linear, move, normalise, recurrent, sample)
"""They fill the table."""

NP: Mapping[str, Any] = {
    "fp32": np.float32, "fp16": np.float16, "int32": np.int32, "bool": np.bool_, "int8": np.int8, "uint8": np.uint8,
    "int16": np.int16, "uint16": np.uint16, "int4": np.int8, "uint4": np.uint8, "uint32": np.uint32,
    **dict.fromkeys(("uint1", "uint2", "uint3", "uint6"), np.uint8),
}  # fmt: skip
IGNORED = frozenset({"validate_indices", "sort", "output_indices_dtype", "vector_axis", "output_shape"})
"""Inputs that change no value: indices are always checked, sorts stable, shapes compared with the declared ones."""
TYPED = frozenset(
    {("reduce_argmax", "output_dtype"), ("reduce_argmin", "output_dtype"), ("constexpr_cast", "output_dtype")}
)
"""Inputs that repeat the declared type of the result."""


@dataclass(eq=False)
class Package:
    """See the module.

    Attributes:
        path: of the package.
        spec: its protobuf.
        names: original name by name in the package, for inputs and outputs.
        wide: computes what is declared float32 in float64, to tell what rounding adds.
    """

    path: Path
    spec: Any
    names: Mapping[str, str]
    operations: list[Any] = field(default_factory=list)
    inputs: Mapping[str, Any] = field(default_factory=dict)
    states: dict[str, Array] = field(default_factory=dict)
    wide: bool = False
    _constants: dict[str, list[Any]] = field(default_factory=dict)
    _last: dict[str, int] = field(default_factory=dict)

    @staticmethod
    def load(path: Path) -> Package:
        """Reads a package.

        Raises:
            ModelError: it cannot be read.
        """
        ct = coremltools()
        from coremltools.converters.mil.frontend.milproto.load import load

        try:
            model = ct.models.MLModel(str(path), skip_model_load=True)
            spec = model.get_spec()
            program = load(spec, spec.specificationVersion, model.weights_dir)
        except Exception as error:  # coremltools raises whatever it meets
            raise ModelError(f"the package cannot be read back: {error}", where=str(path)) from error
        user = spec.description.metadata.userDefined
        names = {key[len(KEY) :]: user[key] for key in user if key.startswith(KEY)}
        function = program.functions["main"]
        found = Package(path, spec, names, list(function.operations), dict(function.inputs))
        found._prepare([output.name for output in function.outputs])
        return found

    def _prepare(self, outputs: list[str]) -> None:
        for at, op in enumerate(self.operations):
            for value in leaves(op):
                self._last[value.name] = at
        self._last.update(dict.fromkeys(outputs, len(self.operations)))
        self._outputs = outputs

    @property
    def ops(self) -> dict[str, int]:
        """How often each operation stands in the program, constants apart."""
        found: dict[str, int] = {}
        for op in whole(self.operations):
            if op.op_type != "const":
                found[op.op_type] = found.get(op.op_type, 0) + 1
        return dict(sorted(found.items()))

    def original(self, name: str) -> str:
        """The name in ONNX of an input or output."""
        return self.names.get(name, name)

    @property
    def output_names(self) -> list[str]:
        """The outputs, by their names in ONNX."""
        return [self.original(name) for name in self._outputs]

    def run(self, feed: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs by their names in ONNX, for inputs by those names.

        Raises:
            DataError: an input is missing.
            ModelError: an operation is not known, or gives another shape than declared.
        """
        wanted = set(self._outputs)
        return {self.original(name): value for name, value in self.values(feed) if name in wanted}

    def values(
        self, feed: Mapping[str, Array], corrected: Mapping[str, Array] | None = None
    ) -> Iterator[tuple[str, Array]]:
        """Every value of the program by its name there, in order; errors as `run`.

        Args:
            feed: as for `run`.
            corrected: values that later operations read in place of the computed ones, which are yielded all the same.
        """
        env: dict[str, Any] = {}
        feed = {**self.filled(feed), **feed}
        for name, value in self.inputs.items():
            original = self.original(name)
            if is_state(value):
                env[name] = self.states[name]
                continue
            if original not in feed:
                raise DataError("the input is missing", where=original)
            given = np.asarray(feed[original])
            env[name] = stored(given if given.ndim else given.reshape(1), value, wide=self.wide)
            yield name, env[name]
        for at, op in enumerate(self.operations):
            results = self._compute(op, env)
            for output, result in zip(op.outputs, results, strict=True):
                env[output.name] = result if corrected is None else corrected.get(output.name, result)
                if op.op_type != "const":
                    yield output.name, result
            for value in leaves(op):
                if self._last.get(value.name) == at:
                    env.pop(value.name, None)

    def filled(self, feed: Mapping[str, Array]) -> dict[str, Array]:
        """Puts what the feed gives for caches into the states, empty ones where they are new; gives their length.

        Raises:
            DataError: more than a state has room for.
        """
        user, length = self.spec.description.metadata.userDefined, {}
        for name, value in self.inputs.items():
            if not is_state(value):
                continue
            shape = [int(d) for d in value.shape]
            past = feed.get(self.original(name))
            if name not in self.states or past is not None:
                self.states[name] = np.zeros(shape, np.float16)
            if past is not None:
                if len(past.shape) != len(shape) or any(n > room for n, room in zip(past.shape, shape, strict=True)):
                    raise DataError(f"shape {list(past.shape)}; the state has {shape}", where=self.original(name))
                self.states[name][tuple(map(slice, past.shape))] = past
                axis = json.loads(user[STATE + name])[1]
                if axis is not None:
                    length[user[CACHE_LENGTH]] = np.array([past.shape[axis]], np.int32)
        return length

    def _compute(self, op: Any, env: Mapping[str, Any]) -> list[Any]:
        name = op.outputs[0].name
        if op.op_type == "const" or op.op_type.startswith("constexpr"):
            if name not in self._constants:
                self._constants[name] = [op.outputs[0].val] if op.op_type == "const" else self._apply(op, env)
            return self._constants[name]
        if op.op_type == "read_state":
            return [self.states[op.input.name]]
        if op.op_type == "coreml_update_state":
            self.states[op.state.name] = env[op.value.name]
            return [env[op.value.name]]
        if op.op_type == "cond":
            taken = op.blocks[0 if bool(np.asarray(self._operand(op.pred, env)).reshape(-1)[0]) else 1]
            return self._block(taken, env)
        if op.op_type == "classify":
            scores = np.asarray(env[op.probabilities.name]).reshape(-1)
            return [np.asarray(int(scores.argmax())), scores]
        return self._apply(op, env)

    def _block(self, block: Any, env: Mapping[str, Any]) -> list[Any]:
        inner = dict(env)
        for op in block.operations:
            for output, result in zip(op.outputs, self._compute(op, inner), strict=True):
                inner[output.name] = result
        return [inner.get(output.name, output.val) for output in block.outputs]

    def _apply(self, op: Any, env: Mapping[str, Any]) -> list[Any]:
        function = COMPUTES.get(op.op_type)
        if function is None:
            raise ModelError(f"operation {op.op_type!r} is not known to the evaluator", where=op.name)
        given = {
            key: self._operand(value, env)
            for key, value in op.inputs.items()
            if value is not None and key not in IGNORED and (op.op_type, key) not in TYPED
        }
        try:
            with np.errstate(all="ignore"):
                found = function(**given)
        except (ValueError, TypeError, IndexError, KeyError) as error:
            raise ModelError(f"{op.op_type} cannot be computed: {error}", where=op.name) from error
        results = list(found) if isinstance(found, list | tuple) else [found]
        pairs = zip(results, op.outputs, strict=True)
        return [stored(np.asarray(r), var, check=op.name, wide=self.wide) for r, var in pairs]

    def _operand(self, value: Any, env: Mapping[str, Any]) -> Any:
        if isinstance(value, list | tuple):
            return [self._operand(v, env) for v in value]
        found = env.get(value.name, value.val)
        if found is None or isinstance(found, str):
            return found
        array = np.asarray(found)
        if self.wide and array.dtype == np.float32:
            return array.astype(np.float64)
        return array.astype(np.float32) if array.dtype == np.float16 else array


def whole(operations: Iterable[Any]) -> Iterator[Any]:
    """Operations with those inside their blocks."""
    for op in operations:
        yield op
        for block in op.blocks:
            yield from whole(block.operations)


def leaves(op: Any) -> Iterator[Any]:
    """The values that an operation reads, those inside its blocks included."""
    for block in op.blocks:
        yield from block.outputs
        for inner in block.operations:
            yield from leaves(inner)
    for value in op.inputs.values():
        if isinstance(value, list | tuple):
            yield from (v for v in value if v is not None)
        elif value is not None:
            yield value


def is_state(value: Any) -> bool:
    """Whether an input of the function is a state."""
    return bool(mil().types.is_state(value.sym_type))


def stored(array: Array, value: Any, check: str = "", *, wide: bool = False) -> Array:
    """An array as the program stores it: in the declared type, float32 as float64 where `wide`.

    Raises:
        ModelError: its shape is not the declared one.
    """
    types = mil().types
    kind = types.builtin_to_string(value.dtype)
    wanted = np.float64 if wide and kind == "fp32" else NP.get(kind)
    if wanted is None:
        raise ModelError(f"type {kind} is not known to the evaluator", where=value.name)
    declared = tuple(value.shape)
    fits = len(declared) == array.ndim and all(
        d == n for d, n in zip(declared, array.shape, strict=True) if isinstance(d, int | np.integer)
    )
    if not fits:
        raise ModelError(
            f"gives shape {list(array.shape)}, declared is {list(map(str, declared))}", where=check or value.name
        )
    if array.dtype == wanted:
        return array
    if np.dtype(wanted) == np.int32 and array.dtype.kind in "iu" and array.dtype.itemsize > 4:
        array = np.clip(array, -(2**31), 2**31 - 1)
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(array.astype(wanted))
