"""How numbers of a cache become codes and back, in operators that ONNX Runtime has on a CPU.

    kind   a number x of scale s                    stored as
    int8   round(x / s), -127 to 127                int8
    int4   floor(x / s + z + 1/2), 0 to 15          uint8, two neighbours in a byte, the first in the low bits
    fp8    the nearest E4M3 number of x / s         uint8, its bits

Tokens have s = max |x| / top along the last axis. With z = 7.5 the sixteen values of int4 lie evenly around 0.

Floats of 8 bits and integers of 4 are stored as bytes, since Concat, Gather, Slice and Where of ONNX Runtime 1.31 take
neither type, and no CPU kernel does BitCast (found by trying). E4M3 has 8 steps in an octave from 2^-6 on, and the same
steps below: with e = max(floor(log2 |y|), -6) the bits are 8 (e + 6) + round(|y| 2^(3 - e)), and 128 for the sign. A
rounding of the logarithm does no harm: 16 steps of one octave are 8 of the next. A table of 256 numbers reads them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import TensorProto

from qcompiler import ir

TOPS = {"int8": 127.0, "int4": 7.5, "fp8": 448.0}
MIDDLE = 7.5
LOWEST_OCTAVE = -6
Shape = Sequence[int | str | None]


@dataclass(frozen=True, eq=False)
class Codes:
    """Adds the nodes for one cache.

    Attributes:
        edit: of the graph.
        kind: of codes.
        width: numbers in a row.
        dtype: of the numbers.
        hint: what new names begin with.
        zero: z of int4.
        before: the node to stand before; None puts each node right behind what it reads.
    """

    edit: ir.Editor
    kind: str
    width: int
    dtype: np.dtype[Any]
    hint: str
    zero: float = MIDDLE
    before: ir.Node | None = None

    @property
    def stored(self) -> np.dtype[Any]:
        """Type of codes."""
        return np.dtype(np.int8 if self.kind == "int8" else np.uint8)

    @property
    def places(self) -> int:
        """Codes in a row, as stored."""
        return self.width // 2 if self.kind == "int4" else self.width

    def scale(self, x: ir.Tensor) -> ir.Tensor:
        """s of each token."""
        axes = self.edit.constant(f"{self.hint}_axes", np.array([-1], np.int64))
        largest = self._add("ReduceMax", self._add("Abs", x), axes, keepdims=1)
        scale = self._add("Mul", largest, self.number(1 / TOPS[self.kind]))
        return self._add("Max", scale, self.number(float(np.finfo(self.dtype).tiny)))

    def encode(self, x: ir.Tensor, scale: ir.Tensor, output: ir.Variable) -> None:
        """Codes of x."""
        y = self._add("Div", x, scale)
        match self.kind:
            case "int8":
                steps = self._add("Clip", self._add("Round", y), self.number(-127.0), self.number(127.0))
            case "int4":
                up = self._add("Floor", self._add("Add", y, self.number(self.zero + 0.5)))
                steps = self._pairs(self._add("Clip", up, self.number(0.0), self.number(15.0)))
            case _:
                steps = self._bits(y)
        to = TensorProto.INT8 if self.kind == "int8" else TensorProto.UINT8
        self._add("Cast", steps, outputs=[output], to=int(to))

    def decode(self, codes: ir.Tensor, scale: ir.Tensor) -> ir.Tensor:
        """The numbers that codes stand for."""
        match self.kind:
            case "int8":
                y = self._add("Cast", codes, to=self._float)
            case "int4":
                y = self._add("Sub", self._add("Cast", self._apart(codes), to=self._float), self.number(self.zero))
            case _:
                table = self.edit.constant(f"{self.hint}_numbers", numbers().astype(self.dtype))
                y = self._add("Gather", table, self._add("Cast", codes, to=int(TensorProto.INT32)))
        return self._add("Mul", y, scale)

    def number(self, value: float) -> ir.Constant:
        """A constant of the numbers' type."""
        return self.edit.constant(f"{self.hint}_number", np.array(value, self.dtype))

    @property
    def _float(self) -> int:
        return int(TensorProto.FLOAT16 if self.dtype == np.float16 else TensorProto.FLOAT)

    def _bits(self, y: ir.Tensor) -> ir.Tensor:
        size = self._add("Abs", y)
        least = self.number(2.0**LOWEST_OCTAVE)
        octaves = self._add("Mul", self._add("Log", self._add("Max", size, least)), self.number(1 / np.log(2)))
        octave = self._add("Max", self._add("Floor", octaves), self.number(float(LOWEST_OCTAVE)))
        finer = self._add("Pow", self.number(2.0), self._add("Sub", self.number(3.0), octave))
        steps = self._add("Round", self._add("Mul", size, finer))
        first = self._add("Mul", self._add("Sub", octave, self.number(float(LOWEST_OCTAVE))), self.number(8.0))
        below = self._add("Less", y, self.number(0.0))
        sign = self._add("Mul", self._add("Cast", below, to=self._float), self.number(128.0))
        return self._add("Add", self._add("Add", first, steps), sign)

    def _pairs(self, steps: ir.Tensor) -> ir.Tensor:
        ends, axes, two = (self._integers(v) for v in (self.width, -1, 2))
        low, high = (self._add("Slice", steps, self._integers(start), ends, axes, two) for start in (0, 1))
        return self._add("Add", low, self._add("Mul", high, self.number(16.0)))

    def _apart(self, codes: ir.Tensor) -> ir.Tensor:
        last = self._integers(-1)
        low = self._add("BitwiseAnd", codes, self.edit.constant(f"{self.hint}_mask", np.array(15, np.uint8)))
        places = self.edit.constant(f"{self.hint}_places", np.array(4, np.uint8))
        high = self._add("BitShift", codes, places, direction="RIGHT")
        both = self._add("Concat", *(self._add("Unsqueeze", part, last) for part in (low, high)), axis=-1)
        return self._add("Reshape", both, self._integers(0, 0, 0, self.width))

    def _integers(self, *values: int) -> ir.Constant:
        return self.edit.constant(f"{self.hint}_integers", np.array(values, np.int64))

    def _add(self, op: str, *inputs: ir.Tensor, outputs: list[ir.Tensor] | None = None, **attrs: Any) -> ir.Tensor:
        name = f"{self.hint}_{op.lower()}"
        node = self.edit.add(op, inputs, name=name, attrs=attrs, outputs=outputs, before=self.before)
        result: ir.Tensor = node.outputs[0]
        return result


def numbers() -> npt.NDArray[np.float32]:
    """What the bits of E4M3 stand for; 0 for the two that stand for no number."""
    octave, step = np.divmod(np.arange(128), 8)
    sizes = np.where(octave == 0, step * 2.0**-9, (8 + step) * 2.0 ** (octave - 10))
    sizes[127] = 0
    return np.concatenate([sizes, -sizes]).astype(np.float32)
