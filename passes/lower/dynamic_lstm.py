"""LSTM(X, W, R, B) -> DynamicQuantizeLSTM(X, Wq, Rq, B), each step with integer products (com.microsoft, version 1).

    X W^T ~ (q(X) - z) Wq s s_w      q, s, z from all of X at once
    H R^T ~ (q(H) - z) Rq s s_r      q, s, z from the state of each step
    Wq, Rq = W^T, R^T in int8, zero point 0, one scale for each row of W and R (each of the 4 gates of each hidden unit)

Bias, gates, cell state and results are float. Weights are stored transposed, (directions, n, 4 hidden), the layout that
the kernel multiplies with; both directions have the same scales. The operator is ONNX Runtime's own; what its tool
`quantize_dynamic` writes has the same form. The results keep their names.
"""

from __future__ import annotations

from qcompiler import ir
from qcompiler.passes.lower.dynamic import Quantized

DOMAIN = "com.microsoft"
FIRST_SCALE = 8
"""Inputs of LSTM, then scale and zero point of W, scale and zero point of R."""


def lower_dynamic_lstm(edit: ir.Editor, node: ir.Node, w: Quantized, r: Quantized) -> None:
    """Replaces an LSTM.

    Args:
        edit: editor of the node's graph.
        node: LSTM with default activations, layout 0, no clip, no peepholes, no input_forget.
        w: its input 1 as (directions, input, 4 hidden) codes; scale and zero point of shape (directions, 4 hidden).
        r: its input 2 likewise, (directions, hidden, 4 hidden).
    """
    outputs = list(node.outputs)
    edit.set_outputs(node, [])
    others = [tensor if tensor.name else None for tensor in node.inputs[3:FIRST_SCALE]]
    others += [None] * (FIRST_SCALE - 3 - len(others))
    inputs = [node.inputs[0], w.codes, r.codes, *others, w.scale, w.zero_point, r.scale, r.zero_point]
    attrs = {"hidden_size": int(r.codes.shape[1]), "direction": node.attrs.get("direction", "forward")}
    edit.add("DynamicQuantizeLSTM", inputs, name=f"{node.name}_integer", attrs=attrs, outputs=outputs, domain=DOMAIN)
    edit.erase(node)
