"""Writes quantized values into a graph: Q/DQ pairs, integer constants, and what dynamic operators read."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import TensorProto

from qcompiler import ir
from qcompiler.passes.lower.codes import axis_of, block_of, book_of, codes_of, np_dtype
from qcompiler.passes.lower.dynamic import Quantized, quantize_dynamic
from qcompiler.passes.lower.two_levels import in_bytes, quantize_blocks, scale_tensor
from qcompiler.quant import Encoding, PerGroup, QSpec

Key = tuple[int, QSpec, bytes, bytes, bytes]


@dataclass(eq=False)
class Writer:
    """Inserts nodes and constants, each distinct one once.

    Attributes:
        edit: the editor of the graph.
    """

    edit: ir.Editor
    _pairs: dict[Key, ir.Tensor] = field(default_factory=dict)
    _numbers: dict[tuple[str, bytes], ir.Constant] = field(default_factory=dict)
    _dynamic: dict[int, Quantized] = field(default_factory=dict)
    _matrices: dict[tuple[Key, bool], Quantized] = field(default_factory=dict)
    _kept: list[ir.Tensor] = field(default_factory=list)

    # ---- values
    def at_use(self, node: ir.Node, port: int, encoding: Encoding) -> None:
        """Quantizes one use of a value."""
        tensor = node.inputs[port]
        key = self._key(tensor, encoding)
        if key not in self._pairs:
            constant = isinstance(tensor, ir.Constant)
            self._pairs[key] = self._constant(tensor, encoding, node) if constant else self._pair(tensor, encoding)
        self.edit.set_input(node, port, self._pairs[key])

    def at_tensor(self, tensor: ir.Tensor, encoding: Encoding) -> None:
        """Quantizes a value for all its readers."""
        if not self.edit.uses(tensor):
            return
        dequantized = self._pair(tensor, encoding)
        quantizer = dequantized.inputs[0].inputs[0].inputs[0]
        self.edit.replace_uses(tensor, dequantized, keep=[quantizer])

    def rescale(self, tensor: ir.Tensor, encoding: Encoding) -> None:
        """Replaces Mul(DequantizeLinear(q), constant), which gives `tensor`, by DequantizeLinear(q) with its scale."""
        node = tensor.inputs[0]
        before = node.inputs[0].inputs[0]
        self.edit.set_outputs(node, [])
        self._dequantize(before.inputs[0], tensor, self._parameters(tensor.name, encoding), encoding, outputs=[tensor])
        self.edit.erase(node)
        if not self.edit.uses(before.outputs[0]):
            self.edit.erase(before)

    def dynamic(self, tensor: ir.Tensor) -> Quantized:
        """A value quantized at run time."""
        if id(tensor) not in self._dynamic:
            self._kept.append(tensor)
            self._dynamic[id(tensor)] = quantize_dynamic(self.edit, tensor)
        return self._dynamic[id(tensor)]

    def matrix(self, tensor: ir.Constant, encoding: Encoding, transposed: bool) -> Quantized:
        """A constant matrix as integers, transposed if so wished."""
        key = self._key(tensor, encoding), transposed
        if key not in self._matrices:
            codes = codes_of(tensor, encoding)
            if transposed:
                codes = np.ascontiguousarray(codes.T)
            scale, zero_point = self._parameters(tensor.name, encoding)
            zero = zero_point if encoding.zero_point.any() else None
            self._matrices[key] = Quantized(self.edit.constant(f"{tensor.name}_q", codes), scale, zero)
        return self._matrices[key]

    def lstm_weight(self, tensor: ir.Constant, encoding: Encoding) -> Quantized:
        """W or R of an LSTM (directions, 4 hidden, n) as integers (directions, n, 4 hidden), a scale for each row."""
        key = self._key(tensor, encoding), True
        if key not in self._matrices:
            codes = np.ascontiguousarray(codes_of(tensor, encoding).transpose(0, 2, 1))
            rows = (codes.shape[0], codes.shape[2])
            scale = self._number(f"{tensor.name}_scale", np.ascontiguousarray(np.broadcast_to(encoding.scale, rows)))
            zeros = self._number(f"{tensor.name}_zero_point", np.zeros(rows, codes.dtype))
            self._matrices[key] = Quantized(self.edit.constant(f"{tensor.name}_q", codes), scale, zeros)
        return self._matrices[key]

    # ---- nodes
    def _pair(self, tensor: ir.Tensor, encoding: Encoding) -> ir.Tensor:
        """QuantizeLinear and DequantizeLinear behind `tensor`; gives the dequantized value."""
        if in_bytes(encoding):
            return quantize_blocks(self.edit, tensor, encoding)
        parameters = self._parameters(tensor.name, encoding)
        quantized = self.edit.variable(f"{tensor.name}_q", np_dtype(encoding), tensor.shape)
        self.edit.add("QuantizeLinear", [tensor, *parameters], name=f"{tensor.name}_quantize", outputs=[quantized])
        return self._dequantize(quantized, tensor, parameters, encoding)

    def _constant(self, tensor: ir.Constant, encoding: Encoding, reader: ir.Node) -> ir.Tensor:
        """An initializer of codes in place of `tensor`, and the DequantizeLinear that reads it, before `reader`."""
        if encoding.codebook is not None and block_of(encoding) is None:
            return self._palette(tensor, encoding, encoding.codebook, reader)
        codes: ir.Tensor = self.edit.constant(f"{tensor.name}_q", codes_of(tensor, encoding))
        entries = book_of(encoding)
        if entries is not None:
            codes = self._look_up(codes, self._number(f"{tensor.name}_book", entries), tensor, reader)
        if in_bytes(encoding):
            parameters = [scale_tensor(self.edit, tensor.name, encoding, tensor.dtype, reader)]
        else:
            parameters = self._parameters(tensor.name, encoding, tensor.dtype)
        return self._dequantize(codes, tensor, parameters, encoding, before=reader)

    def _look_up(self, codes: ir.Tensor, book: ir.Constant, like: ir.Constant, reader: ir.Node) -> ir.Tensor:
        """Gather(book, Cast(codes)), before `reader`."""
        index = self.edit.variable(f"{like.name}_index", np.dtype(np.int32), like.shape)
        to = {"to": int(TensorProto.INT32)}
        self.edit.add("Cast", [codes], name=f"{like.name}_cast", attrs=to, outputs=[index], before=reader)
        output = self.edit.variable(f"{like.name}_entries", book.dtype, like.shape)
        self.edit.add("Gather", [book, index], name=f"{like.name}_look_up", outputs=[output], before=reader)
        return output

    def _palette(
        self, tensor: ir.Constant, encoding: Encoding, table: npt.NDArray[np.float32], reader: ir.Node
    ) -> ir.Tensor:
        """Gather(table, Cast(codes) + first entry of the group), before `reader`."""
        assert encoding.codes is not None
        codes = self.edit.constant(f"{tensor.name}_q", encoding.codes.astype(np_dtype(encoding)))
        index = self.edit.variable(f"{tensor.name}_index", np.dtype(np.int32), tensor.shape)
        to = {"to": int(TensorProto.INT32)}
        self.edit.add("Cast", [codes], name=f"{tensor.name}_cast", attrs=to, outputs=[index], before=reader)
        if len(table) > 1 and isinstance(encoding.spec.granularity, PerGroup):
            axis = encoding.spec.granularity.axis
            form = [-1 if i == axis else 1 for i in range(len(tensor.shape))]
            first = np.repeat(np.arange(len(table)) * table.shape[1], encoding.spec.granularity.size)
            offsets = self._number(f"{tensor.name}_group", first.astype(np.int32).reshape(form))
            place = self.edit.variable(f"{tensor.name}_place", np.dtype(np.int32), tensor.shape)
            name = f"{tensor.name}_offset"
            self.edit.add("Add", [index, offsets], name=name, outputs=[place], before=reader)
            index = place
        values = self.edit.constant(f"{tensor.name}_palette", table.reshape(-1))
        output = self.edit.variable(f"{tensor.name}_dq", np.dtype(np.float32), tensor.shape)
        self.edit.add("Gather", [values, index], name=f"{tensor.name}_look_up", outputs=[output], before=reader)
        return output

    def _dequantize(
        self,
        quantized: ir.Tensor,
        like: ir.Tensor,
        parameters: list[ir.Tensor],
        encoding: Encoding,
        outputs: list[ir.Tensor] | None = None,
        before: ir.Node | None = None,
    ) -> ir.Tensor:
        """DequantizeLinear behind `quantized`; its output has the type and shape of `like`."""
        axis, block = axis_of(encoding), block_of(encoding)
        kind = np.dtype(np.float32 if like.dtype is None else like.dtype)
        output = outputs or [self.edit.variable(f"{like.name}_dq", kind, like.shape)]
        name, attrs = f"{like.name}_dequantize", {} if axis is None else {"axis": axis}
        if block is not None:
            attrs["block_size"] = block
        inputs = [quantized, *parameters]
        self.edit.add("DequantizeLinear", inputs, name=name, attrs=attrs, outputs=output, before=before)
        return output[0]

    # ---- numbers
    def _parameters(self, name: str, encoding: Encoding, dtype: Any = np.float32) -> list[ir.Tensor]:
        """Scale and zero point as initializers; equal ones are shared. Zeros of blocks go without saying."""
        scale = self._number(f"{name}_scale", encoding.scale.astype(dtype, copy=False))
        if block_of(encoding) is not None and not encoding.zero_point.any():
            return [scale]
        entries = book_of(encoding)
        kind = np_dtype(encoding) if entries is None else entries.dtype
        return [scale, self._number(f"{name}_zero_point", encoding.zero_point.astype(kind))]

    def _number(self, hint: str, values: npt.NDArray[Any]) -> ir.Constant:
        """An initializer with these values, made once."""
        key = (f"{values.dtype}{values.shape}", values.tobytes())
        if key not in self._numbers:
            self._numbers[key] = self.edit.constant(hint, values)
        return self._numbers[key]

    def _key(self, tensor: ir.Tensor, encoding: Encoding) -> Key:
        # a tensor that is kept keeps its id to itself
        self._kept.append(tensor)
        codes = (
            b"" if encoding.codes is None else sha256(np.ascontiguousarray(encoding.codes).view(np.uint8).data).digest()
        )
        return id(tensor), encoding.spec, encoding.scale.tobytes(), encoding.zero_point.tobytes(), codes
