"""Caches that GroupQueryAttention keeps, in int8 or int4: its own kernel reads codes, with a scale for each channel.

    past -> GroupQueryAttention -> present        past, present: codes; k_scale, v_scale: constants, (heads * width)
    s_c = max |present_c| / top                   over the calibration samples, rotated as they are stored

The scales are fixed, so nothing stands beside the codes; what is larger later is cut off. The kernel that runs on a CPU
takes channels for both keys and values or for neither, and no fp8: "requires k_quant_type == v_quant_type", "Could not
find an implementation" (ONNX Runtime 1.31). The float model's inputs and outputs stay until the model is `stored`.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from qcompiler import ir
from qcompiler.passes.lower.cache_codes import TOPS, Codes
from qcompiler.passes.plan.stretched import Statistics

OP = "GroupQueryAttention"
PAST, PRESENT, SCALES = (3, 4), (1, 2), (12, 13)
AXES = (1, 3)
"""Of a cache: heads and channels."""
BITS = {"int8": 8, "int4": 4}
ZERO = 8.0
"""Of int4: a code of 8 stands for 0."""


def quantize_inside(edit: ir.Editor, node: ir.Node, kind: str, stats: Statistics | None) -> str | None:
    """Has the node keep codes; or why it cannot."""
    caches = [(node.inputs[port], node.outputs[out]) for port, out in zip(PAST, PRESENT, strict=True)]
    if kind not in BITS:
        return f"GroupQueryAttention {node.name!r} has no kernel for a cache of {kind} on a CPU: int8 and int4 do"
    scales = []
    for past, present in caches:
        ends = None if stats is None else stats.channel_range(present.name, AXES)
        heads, width = (past.shape[1], past.shape[3]) if past.shape is not None else (None, None)
        if not isinstance(heads, int) or not isinstance(width, int) or width % 2:
            return f"the sizes of {past.name!r} are not known, or odd"
        if not edit.is_output(present) or len(edit.uses(present)) != 1:
            return f"{present.name!r} is not an output alone"
        if ends is None or ends.absmax.size != heads * width:
            return f"GroupQueryAttention {node.name!r} takes fixed scales, which need --data"
        tiny = np.finfo(np.float32).tiny
        scales.append(np.maximum(ends.absmax / np.float32(TOPS[kind]), tiny).astype(np.float32))
    for port, (past, present), scale, output in zip(PAST, caches, scales, PRESENT, strict=True):
        width = int(past.shape[3])
        codes = Codes(edit, kind, width, np.dtype(past.dtype), past.name, ZERO, before=node)
        rows = edit.constant(f"{past.name}_scales", scale.reshape(1, -1, 1, width).astype(past.dtype))
        form = [*list(past.shape)[:3], codes.places]
        stored = edit.variable(f"{past.name}_codes", codes.stored, form)
        codes.encode(past, rows, stored)
        edit.set_input(node, port, stored)
        made = edit.variable(f"{present.name}_codes", codes.stored, [*list(present.shape or [None] * 3)[:3], form[3]])
        outputs = list(node.outputs)
        outputs[output] = made
        edit.set_outputs(node, outputs)
        value = replace(codes, before=None).decode(made, rows)
        edit.replace_uses(present, value)
    for port, scale in zip(SCALES, scales, strict=True):
        edit.set_input(node, port, edit.constant(f"{node.name}_scale", scale))
    node.attrs.update(kv_cache_bit_width=BITS[kind], k_quant_type="PER_CHANNEL", v_quant_type="PER_CHANNEL")
    return None


def keeps(node: ir.Node, past: ir.Variable) -> bool:
    """Whether the node keeps a cache itself."""
    return node.op == OP and any(port < len(node.inputs) and node.inputs[port] is past for port in PAST)


def store_inside(edit: ir.Editor, model: ir.Model) -> int:
    """Makes the codes of such nodes inputs and outputs of the model; gives how many."""
    count, pasts = 0, {f"{tensor.name}_codes": tensor for tensor in model.inputs}
    ends = {tensor.name: tensor for tensor in model.outputs}
    for node in [node for node in model.nodes if node.op == OP and node.attrs.get("k_quant_type")]:
        for port, out in zip(PAST, PRESENT, strict=True):
            codes, made = node.inputs[port], node.outputs[out]
            past, present = pasts.get(codes.name), ends.get(made.name.removesuffix("_codes"))
            if past is None or present is None:
                continue  # came so
            edit.set_input(node, port, past)
            edit.retype(past, codes.dtype, codes.shape)
            edit.replace_uses(present, made)
            count += 1
    return count
