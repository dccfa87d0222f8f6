"""Linear operators with constant weights as y = W x + b, and what it takes to absorb a per-channel affine map.

    (W x + b) * s + t = (W * s) x + (b * s + t)      s, t per output channel
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qcompiler import ir


@dataclass(frozen=True, eq=False)
class Linear:
    """A view of a Conv, ConvTranspose or Gemm node.

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
    def channels(self) -> int:
        """Number of output channels; for a Gemm, of columns."""
        shape, attrs = self.weight.shape, self.node.attrs
        match self.node.op:
            case "Conv":
                return int(shape[0])
            case "ConvTranspose":
                return int(shape[1]) * int(attrs.get("group", 1))
            case _:
                return int(shape[0] if attrs.get("transB", 0) else shape[1])

    def refusal(self) -> str | None:
        """Why no affine map can be absorbed: a weight or bias that is not a plain floating-point constant."""
        for role, tensor in (("weight", self.weight), ("bias", self.bias)):
            if tensor is None:
                continue
            if not isinstance(tensor, ir.Constant):
                return f"{role} {tensor.name!r} of {self.node.op} {self.node.name!r} is not constant"
            if np.dtype(tensor.dtype).kind != "f":
                return f"{role} {tensor.name!r} of {self.node.op} {self.node.name!r} is {tensor.dtype}, not float"
        if self.bias is not None and self.node.op == "Gemm" and self._gemm_bias_rows() > 1:
            return f"bias {self.bias.name!r} of Gemm {self.node.name!r} differs between rows"
        return None

    def _gemm_bias_rows(self) -> int:
        shape = self.bias.shape if self.bias is not None else []
        return int(shape[0]) if len(shape) == 2 else 1

    def scaled_weight(self, scale: npt.NDArray[np.float64]) -> npt.NDArray[np.floating]:
        """W with each output channel multiplied by its entry of `scale`, shape (channels,)."""
        w = ir.array(self.weight)
        match self.node.op:
            case "Conv":
                factor = scale.reshape(-1, *[1] * (w.ndim - 1))
            case "ConvTranspose":
                # W is (in, out / group, ...): input block g produces output block g
                group = int(self.node.attrs.get("group", 1))
                blocks = np.repeat(scale.reshape(group, -1), w.shape[0] // group, axis=0)
                factor = blocks.reshape(*w.shape[:2], *[1] * (w.ndim - 2))
            case _:
                factor = scale.reshape(-1, 1) if self.node.attrs.get("transB", 0) else scale.reshape(1, -1)
        return (w.astype(np.float64) * factor).astype(w.dtype)

    def absorb(self, edit: ir.Editor, scale: npt.NDArray[np.float64], shift: npt.NDArray[np.float64]) -> None:
        """Makes the node compute its old result times `scale` plus `shift`, both of shape (channels,).

        New constants are made, since the old ones may serve other nodes too.
        """
        dtype = np.dtype(self.weight.dtype)
        bias = np.zeros(self.channels) if self.bias is None else ir.array(self.bias).astype(np.float64)
        if self.node.op == "Gemm":
            # y = alpha A B + beta C: the shift enters through C, so it must not be multiplied by beta again
            bias = np.broadcast_to(bias.reshape(-1), (self.channels,)) * float(self.node.attrs.pop("beta", 1.0))
        new_bias = (bias * scale + shift).astype(dtype)
        old = self.bias.name if self.bias is not None else f"{self.node.name}_bias"
        weight = edit.constant(f"{self.weight.name}_scaled", self.scaled_weight(scale))
        edit.set_input(self.node, 1, weight)
        edit.set_input(self.node, 2, edit.constant(f"{old}_folded", new_bias))
