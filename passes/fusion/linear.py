"""Linear operators with constant weights as y = W x + b, and what it takes to absorb a per-channel affine map.

    (W x + b) * s + t   = (W * s) x + (b * s + t)      s, t per output channel
    W (x * s + t) + b   = (W * s) x + (b + W t)        s, t per input channel; t only where nothing is padded

Source: ONNX operator standard, Conv, ConvTranspose, Gemm and MatMul.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from qcompiler import ir
from qcompiler.rewrite import Any, Op

Vector = npt.NDArray[np.float64]

BIASED: Final = "Conv|ConvTranspose|Gemm"
"""Linear operators that add a bias of their own."""

LINEAR: Final = f"{BIASED}|MatMul"


def linear(ops: str, first: Any | Op | None = None) -> Op:
    """The pattern of a linear operator, bound to "linear", with `first` as its data input."""
    return Op(ops, first or Any("x"), Any("w"), Any("b", optional=True), bind="linear")


@dataclass(frozen=True, eq=False)
class Linear:
    """A view of a Conv, ConvTranspose, Gemm or MatMul node.

    Weights keep their dtype; products are computed in float64 and rounded once.
    """

    node: ir.Node

    @property
    def weight(self) -> ir.Tensor:
        """The weight tensor, input 1."""
        return self.node.inputs[1]

    @property
    def bias(self) -> ir.Tensor | None:
        """The bias tensor, input 2, or None where it is omitted."""
        inputs = self.node.inputs
        return inputs[2] if len(inputs) > 2 and inputs[2].name else None

    @property
    def dtype(self) -> np.dtype[np.floating]:
        """Type of the weight."""
        dtype: np.dtype[np.floating] = np.dtype(self.weight.dtype)
        return dtype

    @property
    def channels(self) -> int:
        """Number of output channels; for Gemm and MatMul, of columns."""
        shape, outputs, _ = self._layout()
        return math.prod(shape[axis] for axis in outputs)

    @property
    def input_channels(self) -> int:
        """Number of input channels; for Gemm and MatMul, the length of the sum."""
        shape, _, inputs = self._layout()
        return math.prod(shape[axis] for axis in inputs)

    @property
    def output_axis(self) -> int:
        """Axis of the output's channels, counted from the end."""
        return 1 - len(self.weight.shape) if self.node.op in ("Conv", "ConvTranspose") else -1

    @property
    def input_axis(self) -> int:
        """Axis of the data input's channels, counted from the end."""
        if self.node.op == "Gemm":
            return -2 if self.node.attrs.get("transA", 0) else -1
        return self.output_axis

    @property
    def rank(self) -> int | None:
        """Rank of the output, None where a MatMul does not tell."""
        if self.node.op != "MatMul":
            return len(self.weight.shape)
        shape = self.node.outputs[0].shape
        return None if shape is None else len(shape)

    @property
    def pads(self) -> bool:
        """Whether a Conv may read zeros that are not in its input."""
        attrs = self.node.attrs
        mode = attrs.get("auto_pad", "NOTSET")
        return mode.startswith("SAME") or (mode == "NOTSET" and any(attrs.get("pads", ())))

    def _layout(self) -> tuple[list[int], tuple[int, ...], tuple[int, ...]]:
        """The weight's shape with groups on an axis of their own; its axes of output and of input channels."""
        shape, attrs = [int(n) for n in self.weight.shape], self.node.attrs
        group = int(attrs.get("group", 1))
        match self.node.op:
            case "Conv":
                return [group, shape[0] // group, *shape[1:]], (0, 1), (0, 2)
            case "ConvTranspose":
                return [group, shape[0] // group, *shape[1:]], (0, 2), (0, 1)
            case "Gemm" if attrs.get("transB", 0):
                return shape, (0,), (1,)
            case _:
                return shape, (len(shape) - 1,), (len(shape) - 2,)

    def refusal(self) -> str | None:
        """Why no affine map can be absorbed: a weight or bias that is not a plain floating-point constant."""
        for role, tensor in (("weight", self.weight), ("bias", self.bias)):
            if tensor is None:
                continue
            what = f"{role} {tensor.name!r} of {self.node.op} {self.node.name!r}"
            if not isinstance(tensor, ir.Constant):
                return f"{what} is not constant"
            if np.dtype(tensor.dtype).kind != "f":
                return f"{what} is {tensor.dtype}, not float"
        if len(self.weight.shape) < 2 or 0 in self.weight.shape:
            return f"weight {self.weight.name!r} of {self.node.op} {self.node.name!r} has shape {self.weight.shape}"
        if self.bias is not None and self.node.op == "Gemm" and self._gemm_bias_rows() > 1:
            return f"bias {self.bias.name!r} of Gemm {self.node.name!r} differs between rows"
        return None

    def _gemm_bias_rows(self) -> int:
        shape = self.bias.shape if self.bias is not None else []
        return int(shape[0]) if len(shape) == 2 else 1

    def unsafe(self, scale: Vector | None = None, shift: Vector | None = None, *, of_input: bool = False) -> str | None:
        """Why `scale` and `shift`, both per output (or input) channel, cannot be stored in the weight's type."""
        where = f"{self.node.op} {self.node.name!r}"
        for role, values in (("scale", scale), ("shift", shift)):
            if values is not None and (channel := _first(~np.isfinite(values))) is not None:
                return f"{role} for {where} is not finite in channel {channel}"
        if scale is not None or of_input:
            peak = self._peak(of_input)
            if not np.isfinite(peak).all():
                return f"weight {self.weight.name!r} of {where} holds NaN or infinity"
        if scale is not None:
            product = peak * np.abs(scale)
            if (channel := _first(product > np.finfo(self.dtype).max)) is not None:
                return f"weight {self.weight.name!r} of {where} overflows {self.dtype} in channel {channel}"
            # a float32 weight that small adds nothing that counts; float16 ends at 6e-5
            lost = (product > 0) & (product < np.finfo(self.dtype).tiny) & (self.dtype == np.float16)
            if (channel := _first(lost)) is not None:
                return f"weight {self.weight.name!r} of {where} leaves the normal range of float16 in channel {channel}"
        bias = self._new_bias(*((None, self._response(shift)) if of_input else (scale, shift)))
        if bias is not None and (channel := _first(~(np.abs(bias) <= np.finfo(self.dtype).max))) is not None:
            return f"bias of {where} overflows {self.dtype} in channel {channel}"
        return None

    def _peak(self, of_input: bool) -> Vector:
        """Largest magnitude in each output (or input) channel, shape (channels,)."""
        shape, outputs, inputs = self._layout()
        view, kept = ir.array(self.weight).reshape(shape), inputs if of_input else outputs
        axes = tuple(axis for axis in range(view.ndim) if axis not in kept)
        peak: Vector = np.maximum(view.max(axes), -view.min(axes)).reshape(-1).astype(np.float64)
        return peak

    def scaled_weight(self, scale: Vector, *, of_input: bool = False) -> npt.NDArray[np.floating]:
        """W with each output (or input) channel multiplied by its entry of `scale`, shape (channels,)."""
        shape, outputs, inputs = self._layout()
        kept, w = inputs if of_input else outputs, ir.array(self.weight)
        factor = scale.reshape([n if axis in kept else 1 for axis, n in enumerate(shape)])
        result = np.empty(shape, w.dtype)
        # in float64, block by block: no second copy of a large weight
        np.multiply(w.reshape(shape), factor, out=result, dtype=np.float64, casting="unsafe")
        return result.reshape(w.shape)

    def _response(self, shift: Vector | None) -> Vector | None:
        """What a constant input of `shift`, shape (input_channels,), adds to each output channel."""
        if shift is None:
            return None
        shape, outputs, inputs = self._layout()
        view, entry = ir.array(self.weight).reshape(shape), shift.reshape([shape[axis] for axis in inputs])
        # einsum converts block by block: no float64 copy of a large weight
        total = np.einsum(view, range(len(shape)), entry, inputs, outputs, dtype=np.float64, casting="unsafe")
        return np.asarray(total).reshape(-1) * float(self.node.attrs.get("alpha", 1.0))

    def _new_bias(self, scale: Vector | None, shift: Vector | None) -> Vector | None:
        """b * scale + shift in float64, None where there was none and none is needed."""
        if self.bias is None and (shift is None or not shift.any()):
            return None
        bias = np.zeros(self.channels) if self.bias is None else ir.array(self.bias).astype(np.float64)
        if self.node.op == "Gemm":
            # y = alpha A B + beta C: the shift enters through C, so it must not be multiplied by beta again
            beta = float(self.node.attrs.get("beta", 1.0)) if self.bias is not None else 1.0
            bias = np.broadcast_to(bias.reshape(-1), (self.channels,)) * beta
        return bias * (1.0 if scale is None else scale) + (0.0 if shift is None else shift)

    def absorb(self, edit: ir.Editor, scale: Vector | None = None, shift: Vector | None = None) -> None:
        """Makes the node compute its old result times `scale` plus `shift`, both of shape (channels,).

        New constants are made, since the old ones may serve other nodes too. A MatMul takes no shift.
        """
        bias = self._new_bias(scale, shift)
        if scale is not None:
            self._set_weight(edit, self.scaled_weight(scale))
        self._set_bias(edit, bias)

    def absorb_input(self, edit: ir.Editor, scale: Vector | None = None, shift: Vector | None = None) -> None:
        """Makes the node compute from x what it computed from x * scale + shift, both of shape (input_channels,).

        `shift` needs an operator that adds a bias and pads nothing.
        """
        bias = self._new_bias(None, self._response(shift))
        if scale is not None:
            self._set_weight(edit, self.scaled_weight(scale, of_input=True))
        self._set_bias(edit, bias)

    def become(self, edit: ir.Editor, weight: Vector, bias: Vector) -> None:
        """Gives a Conv another weight, of the same shape, and a bias, of shape (channels,), unless it is none."""
        edit.set_input(self.node, 1, edit.constant(f"{self.weight.name}_merged", weight.astype(self.dtype)))
        self._set_bias(edit, bias if bias.any() or self.bias is not None else None)

    def _set_weight(self, edit: ir.Editor, values: npt.NDArray[np.floating]) -> None:
        edit.set_input(self.node, 1, edit.constant(f"{self.weight.name}_scaled", values))

    def _set_bias(self, edit: ir.Editor, values: Vector | None) -> None:
        if self.node.op == "Gemm":
            self.node.attrs.pop("beta", None)
        if values is not None:
            name = self.bias.name if self.bias is not None else f"{self.node.name}_bias"
            edit.set_input(self.node, 2, edit.constant(f"{name}_folded", values.astype(self.dtype)))


def _first(mask: npt.NDArray[np.bool_]) -> int | None:
    """Index of the first True."""
    return int(np.argmax(mask)) if mask.any() else None
