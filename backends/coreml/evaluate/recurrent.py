"""LSTM, in MIL's order of gates: input, forget, output, cell."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import special

from qcompiler.backends.coreml.evaluate.table import Array, computes

ACTIVATIONS: dict[str, Any] = {
    "sigmoid": special.expit, "tanh": np.tanh, "relu": lambda x: np.maximum(x, 0), "linear": lambda x: x,
    "hard_sigmoid": lambda x: np.clip(0.2 * x + 0.5, 0, 1),
}  # fmt: skip


@computes("lstm")
def lstm(
    x: Array, initial_h: Array, initial_c: Array, weight_ih: Array, weight_hh: Array, direction: str,
    output_sequence: Any, recurrent_activation: str, cell_activation: str, activation: str, bias: Any = None,
    peephole: Any = None, weight_ih_back: Any = None, weight_hh_back: Any = None, bias_back: Any = None,
    peephole_back: Any = None, clip: Any = None,
) -> list[Array]:  # fmt: skip
    """Sequence, last hidden state, last cell state; "reverse" gives its sequence in the order in which it was made."""
    f, g, h = (ACTIVATIONS[name] for name in (recurrent_activation, cell_activation, activation))
    hidden = weight_hh.shape[1]
    passes = [(weight_ih, weight_hh, bias, peephole, direction == "reverse")]
    if direction == "bidirectional":
        passes.append((weight_ih_back, weight_hh_back, bias_back, peephole_back, True))
    sequences, last_h, last_c = [], [], []
    for i, (w, r, b, p, backward) in enumerate(passes):
        state = initial_h[:, i * hidden : (i + 1) * hidden]
        cell = initial_c[:, i * hidden : (i + 1) * hidden]
        made: list[Array] = [np.empty(0)] * len(x)
        for t in reversed(range(len(x))) if backward else range(len(x)):
            gates = x[t] @ w.T + state @ r.T + (0 if b is None else b)
            a, forget, out, new = np.split(gates, 4, axis=1)
            if p is not None:
                a, forget = a + p[:hidden] * cell, forget + p[hidden : 2 * hidden] * cell
            if clip is not None:
                a, forget, new = (np.clip(v, -clip, clip) for v in (a, forget, new))
            cell = f(forget) * cell + f(a) * g(new)
            if p is not None:
                out = out + p[2 * hidden :] * cell
            if clip is not None:
                out = np.clip(out, -clip, clip)
            state = f(out) * h(cell)
            made[t] = state
        sequences.append(np.stack(made[::-1] if direction == "reverse" else made))
        last_h.append(state)
        last_c.append(cell)
    y = np.concatenate(sequences, axis=2)
    final = np.concatenate(last_h, axis=1)
    return [y if bool(output_sequence) else final[None], final, np.concatenate(last_c, axis=1)]
