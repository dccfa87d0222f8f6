"""Which tensor of one model is which of another.

Tensors are matched by name. Where a model quantizes a tensor (QuantizeLinear, then DequantizeLinear), the dequantized
value is what its readers get, so that is compared. A tensor that only exists between a quantized operator and its
QuantizeLinear is left out: to look at it would stop ONNX Runtime from computing it in integers, and the comparison
would be of another program than the one that is shipped. A tensor whose channels a pass stretched has another name.
"""

from __future__ import annotations

from collections.abc import Mapping

from qcompiler import ir

EQUALIZED = "_equalized"
"""How the new name of a tensor ends whose channels a pass stretched."""


def match(
    reference: ir.Model, other: ir.Model, mapping: Mapping[str, str]
) -> tuple[dict[str, tuple[str, str]], dict[str, str]]:
    """Name in `reference` to the tensors to compare, of `reference` and of `other`; and what is left out, and why."""
    here, there = _tensors(reference), _tensors(other)
    pairs: dict[str, tuple[str, str]] = {}
    skipped: dict[str, str] = {}
    for name, tensor in here.items():
        twin = there.get(mapping.get(name, name))
        if twin is None and f"{name}{EQUALIZED}" in there:
            skipped[name] = "its channels are stretched in the other model, for even ranges"
        elif twin is None:
            skipped[name] = "the other model has no such tensor"
        elif _is_inside(twin):
            skipped[name] = "it is inside an integer operator of the other model"
        elif tensor.inputs or stored(twin) is not twin:
            pairs[name] = (str(stored(tensor).name), str(stored(twin).name))
    return pairs, skipped


def _tensors(model: ir.Model) -> dict[str, ir.Tensor]:
    """Inputs of the model, and what nodes give, by name."""
    made = (tensor for node in model.all_nodes() for tensor in node.outputs if tensor.name)
    return {str(tensor.name): tensor for tensor in [*model.inputs, *made]}


def stored(tensor: ir.Tensor) -> ir.Tensor:
    """The dequantized form of a tensor where there is one, else the tensor."""
    for quantize in tensor.outputs:
        if quantize.op == "QuantizeLinear" and quantize.inputs[0] is tensor:
            for dequantize in quantize.outputs[0].outputs:
                if dequantize.op == "DequantizeLinear":
                    return dequantize.outputs[0]
    return tensor


def _is_inside(tensor: ir.Tensor) -> bool:
    """Whether the tensor lies between an operator on dequantized values and a QuantizeLinear behind the next one."""
    readers = list(tensor.outputs)
    if len(readers) != 1 or not tensor.inputs or readers[0].op in ("QuantizeLinear", "DequantizeLinear"):
        return False
    quantized = any(node.op == "DequantizeLinear" for value in tensor.inputs[0].inputs for node in value.inputs)
    behind = [node.op for value in readers[0].outputs for node in value.outputs]
    return quantized and "QuantizeLinear" in behind
