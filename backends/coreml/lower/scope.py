"""What a lowering sees of its node: inputs as MIL values, attributes, and a way to make MIL operations.

ONNX types become those that Core ML computes in: float32, float16, int32, bool. 64-bit integers saturate, so that an
INT64_MAX for "to the end" stays the end; 8-bit and 16-bit integers are widened, and operators whose result could wrap
around in the narrow type are refused for them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompiler import ir
from qcompiler.backends.coreml.names import Names
from qcompiler.backends.coreml.tools import builder, mil

Var = Any
Array = npt.NDArray[Any]

MASK = -6.0e4
"""What -infinity and masks like it become: finite in float16, and far under any logit."""
HALF_MAX = 65504.0
UNBOUNDED = 1e30
"""Numbers from here on stand for infinity."""
MASKING = frozenset({"Add", "Sub", "Where", "Max", "ConstantOfShape"})
"""Where a very negative constant closes something."""


class Refused(Exception):
    """A node that has no form in MIL; the message says why."""


@dataclass(eq=False)
class Program:
    """What all scopes of one program share.

    Attributes:
        os: the oldest iOS that runs the package: 16, 17, 18.
        names: clean names.
        values: MIL value by name of the ONNX tensor.
        owner: name of the ONNX node by name of the MIL operation made for it.
        half: float32 values will be float16, so constants must fit it.
        keep: nodes that stay float32 all the same.
        notes: what a reader should know.
        fused: lowers attention to the operator of iOS 18.
        caches: inputs that are states, by name.
    """

    os: int
    names: Names = field(default_factory=Names)
    values: dict[str, Var] = field(default_factory=dict)
    owner: dict[str, str] = field(default_factory=dict)
    half: bool = False
    keep: frozenset[str] = frozenset()
    notes: list[str] = field(default_factory=list)
    fused: bool = True
    caches: Mapping[str, Any] = field(default_factory=dict)


@dataclass(eq=False)
class Scope:
    """One node being lowered.

    Attributes:
        node: of our graph.
        program: the whole.
    """

    node: ir.Node
    program: Program
    _parts: int = 0

    # ---- the node
    @property
    def os(self) -> int:
        """See `Program`."""
        return self.program.os

    def attr(self, name: str, default: Any = None) -> Any:
        """An attribute."""
        value = self.node.attrs.get(name, default)
        return ir.array(value) if isinstance(value, ir.Constant) else value

    def ints(self, name: str, default: Sequence[int] | None = None) -> list[int] | None:
        """An attribute of integers."""
        value = self.node.attrs.get(name)
        return (None if default is None else list(default)) if value is None else [int(v) for v in value]

    def has(self, port: int) -> bool:
        """Whether an optional input is there."""
        return port < len(self.node.inputs) and bool(self.node.inputs[port].name)

    def onnx_type(self, port: int = 0) -> np.dtype[Any]:
        """The type of an input in ONNX."""
        tensor = self.node.inputs[port]
        return np.dtype(np.float32 if tensor.dtype is None else tensor.dtype)

    # ---- values
    def x(self, port: int = 0) -> Var:
        """An input as a MIL value."""
        if not self.has(port):
            raise Refused(f"input {port} is missing")
        tensor = self.node.inputs[port]
        if tensor.name not in self.program.values:
            self.program.values[tensor.name] = self._made(tensor)
        return self.program.values[tensor.name]

    def _made(self, tensor: ir.Tensor) -> Var:
        from qcompiler.backends.coreml.lower.stored import emitted, stored

        if isinstance(tensor, ir.Constant):
            return self.constant(convertible(tensor), tensor.name)
        found = stored(tensor)
        if found is None:
            raise Refused(f"{tensor.name!r} comes from a node that has no form in MIL")
        return emitted(self, found, tensor.name)

    def optional(self, port: int) -> Var | None:
        """An input that may be missing."""
        return self.x(port) if self.has(port) else None

    def xs(self) -> list[Var]:
        """All inputs."""
        return [self.x(port) for port in range(len(self.node.inputs))]

    def known(self, port: int) -> Array | None:
        """The values of an input that is known now; None where it is computed, or missing."""
        if not self.has(port):
            return None
        tensor = self.node.inputs[port]
        if isinstance(tensor, ir.Constant):
            return convertible(tensor)
        return value_of(self.x(port))

    def need(self, port: int, what: str) -> Array:
        """The values of an input that Core ML needs to know when the model is built."""
        found = self.known(port)
        if found is None:
            raise Refused(f"{what} is computed; it must be constant")
        return found

    def shape(self, port: int = 0) -> list[int]:
        """The shape of an input, all of it known."""
        return static(self.x(port), self.node.inputs[port].name)

    def rank(self, port: int = 0) -> int:
        """The rank of an input."""
        return int(self.x(port).rank)

    def axis(self, value: int, port: int = 0) -> int:
        """An axis of an input, counted from the front."""
        rank = self.rank(port)
        return value % rank if rank else 0

    # ---- operations
    def constant(self, value: Any, hint: str = "") -> Var:
        """A MIL constant."""
        array = np.asarray(value)
        if array.size == 0:
            raise Refused(f"constant {hint!r} is empty")
        if self.program.half and array.dtype == np.float32:
            array = self.within_half(array, hint)
        name = self.program.names.fresh(hint or self._stem())
        return builder().const(val=array if array.ndim else array[()], name=name)

    def within_half(self, array: Array, hint: str) -> Array:
        """Masks and infinities as values that float16 holds; coremltools keeps other large constants in float32."""
        if self.node.name in self.program.keep:
            return array
        with np.errstate(invalid="ignore"):
            beyond = np.abs(array) >= UNBOUNDED
            if self.node.op in MASKING:
                beyond |= array < -HALF_MAX
        if not beyond.any():
            return array
        self.program.notes.append(
            f"{int(beyond.sum())} values of constant {hint!r} beyond float16 are held at {-MASK:g}"
        )
        return np.where(beyond, np.copysign(np.float32(-MASK), array), array).astype(np.float32)

    def op(self, kind: str, **inputs: Any) -> Any:
        """A MIL operation; inputs that are None are left out."""
        self._parts += 1
        name = self.program.names.fresh(f"{self._stem()}_{kind}")
        self.program.owner[name] = self.node.name
        given = {key: value for key, value in inputs.items() if value is not None}
        return getattr(builder(), kind)(name=name, **given)

    def _stem(self) -> str:
        return str(self.node.outputs[0].name or self.node.name)

    def scalar(self, value: Any, like: Var) -> Any:
        """A number in the type of a value."""
        return np_type(like)(value)

    def cast(self, x: Var, dtype: str) -> Var:
        """`x` in another type: fp32, fp16, int32 or bool."""
        return x if type_of(x) == dtype else self.op("cast", x=x, dtype=dtype)

    def alike(self, *values: Var) -> list[Var]:
        """Values in one type: MIL mixes none."""
        kinds = {type_of(value) for value in values}
        wanted = next((kind for kind in ("fp32", "fp16", "int32") if kind in kinds), "bool")
        return [self.cast(value, wanted) for value in values]

    def reshape(self, x: Var, shape: Sequence[Any]) -> Var:
        """`x` in another shape."""
        return self.op("reshape", x=x, shape=np.array([int(d) for d in shape], np.int32))

    def transpose(self, x: Var, perm: Sequence[int]) -> Var:
        """`x` with its axes in another order."""
        return x if list(perm) == list(range(len(perm))) else self.op("transpose", x=x, perm=list(perm))


TYPES = {"float32": "fp32", "float16": "fp16", "int32": "int32", "bool": "bool"}
NP: Mapping[str, Any] = {"fp32": np.float32, "fp16": np.float16, "int32": np.int32, "bool": np.bool_}


def mil_type(dtype: np.dtype[Any]) -> str:
    """The type that Core ML computes an ONNX type in.

    Raises:
        Refused: it has none.
    """
    kind = str(dtype)
    if kind in TYPES:
        return TYPES[kind]
    if kind in ("int64", "int16", "int8", "uint8", "uint16"):
        return "int32"
    if kind == "float64":
        return "fp32"
    raise Refused(f"type {kind} has no place in Core ML")


def convertible(tensor: ir.Constant) -> Array:
    """A constant in the type that Core ML computes it in."""
    return converted(ir.array(tensor))


def converted(array: Array) -> Array:
    """An array in the type that Core ML computes it in; 64-bit integers saturate."""
    wanted = NP[mil_type(array.dtype)]
    if array.dtype.kind in "iu" and array.dtype.itemsize > 2:
        limit = np.iinfo(np.int32)
        return np.clip(array, limit.min, limit.max).astype(wanted)
    return np.asarray(array.astype(wanted))


def type_of(x: Var) -> Any:
    """fp32, fp16, int32, bool, int8 or uint8."""
    return f"{mil().types.builtin_to_string(x.dtype)}"


def np_type(x: Var) -> Any:
    """The NumPy type of a value."""
    return NP[type_of(x)]


def value_of(x: Var) -> Array | None:
    """The values of a MIL value, if they are known now and hold no symbol."""
    found = x.val
    if found is None:
        return None
    array = np.asarray(found)
    return None if array.dtype == object else array


def static(x: Var, name: str) -> list[int]:
    """The shape of a MIL value, all of it known.

    Raises:
        Refused: a dimension is open.
    """
    if not all(isinstance(d, int | np.integer) for d in x.shape):
        raise Refused(f"the shape {list(map(str, x.shape))} of {name!r} is not fixed")
    return [int(d) for d in x.shape]
