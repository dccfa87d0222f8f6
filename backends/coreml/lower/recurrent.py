"""LSTM, GRU, RNN. Gates are put into MIL's order, biases of input and state added up.

    LSTM   ONNX i, o, f, c -> MIL i, f, o, z; peepholes ONNX i, o, f -> MIL i, f, o
    GRU    ONNX z, r, h; MIL's own operator equals neither form of ONNX with biases before iOS 18, so it is unrolled
    RNN    as one operator

Source: ONNX operator specification; MIL `lstm`, `rnn` (fact sheet, section 4).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from qcompiler.backends.coreml.lower.scope import Array, Refused, Scope, Var
from qcompiler.backends.coreml.lower.stored import as_float
from qcompiler.backends.coreml.lower.table import lowers

UNROLLED = 128
"""Longest sequence that is unrolled."""


def parameters(s: Scope, gates: int) -> tuple[Array, Array, Array]:
    """W, R and the biases of each direction."""
    w, r = constant(s, 1), constant(s, 2)
    hidden = r.shape[2]
    bias = s.known(3)
    if s.has(3) and bias is None:
        raise Refused("a computed bias")
    return w, r, np.zeros((w.shape[0], 2 * gates * hidden), np.float32) if bias is None else bias


def constant(s: Scope, port: int) -> Array:
    """A weight, in float."""
    node = s.node.inputs[port].inputs[0] if s.node.inputs[port].inputs else None
    if node is not None and node.op == "DequantizeLinear" and s.known(port) is None:
        return as_float(node)
    return s.need(port, "a weight")


def states(s: Scope, port: int, count: int, hidden: int, batch: int) -> Var:
    """The initial state as (batch, directions * hidden)."""
    if not s.has(port):
        return s.constant(np.zeros((batch, count * hidden), np.float32))
    return s.reshape(s.transpose(s.x(port), [1, 0, 2]), [batch, count * hidden])


def check(s: Scope, *names: str) -> tuple[list[str], int, int]:
    """Direction, sequence and batch; refuses what no operator here has.

    Raises:
        Refused: layout 1, or lengths by sequence other than the whole.
    """
    if s.attr("layout", 0):
        raise Refused("layout 1")
    for name in names:
        if s.attr(name):
            raise Refused(name)
    length, batch, _ = s.shape()
    if s.has(4):
        lengths = s.known(4)
        if lengths is None or (lengths != length).any():
            raise Refused("lengths by sequence")
    direction = str(s.attr("direction", "forward"))
    return ["forward", "reverse"] if direction == "bidirectional" else [direction], length, batch


def activations(s: Scope, default: list[str], count: int) -> list[str]:
    """The activations of the first direction, in MIL's words; all directions must have the same."""
    names = [str(n.decode() if isinstance(n, bytes) else n).lower() for n in s.attr("activations", default * count)]
    if names[: len(default)] * count != names:
        raise Refused("activations that differ by direction")
    if s.attr("activation_alpha") or s.attr("activation_beta"):
        raise Refused("activations with parameters")
    known = {"sigmoid": "sigmoid", "tanh": "tanh", "relu": "relu"}
    if not set(names) <= known.keys():
        raise Refused(f"activations {', '.join(names)}")
    return names[: len(default)]


@lowers("LSTM", to="lstm, reverse", limits="layout 1, lengths by sequence, input_forget, activations with parameters")
def lstm(s: Scope) -> Any:
    """One operator for one or both directions."""
    directions, length, batch = check(s, "input_forget")
    w, r, bias = parameters(s, 4)
    count, hidden = len(directions), r.shape[2]
    f, g, h = activations(s, ["sigmoid", "tanh", "tanh"], count)
    order = np.r_[0:hidden, 2 * hidden : 3 * hidden, hidden : 2 * hidden, 3 * hidden : 4 * hidden]
    peepholes = s.known(7)
    given: dict[str, Any] = {}
    for i, suffix in enumerate(["", "_back"][:count]):
        total = bias[i, : 4 * hidden] + bias[i, 4 * hidden :]
        given[f"weight_ih{suffix}"] = s.constant(w[i][order])
        given[f"weight_hh{suffix}"] = s.constant(r[i][order])
        given[f"bias{suffix}"] = s.constant(total[order])
        if peepholes is not None:
            p = peepholes[i]
            given[f"peephole{suffix}"] = s.constant(p[np.r_[0:hidden, 2 * hidden : 3 * hidden, hidden : 2 * hidden]])
    clip = s.attr("clip")
    direction = "bidirectional" if count == 2 else directions[0]
    y, last, cell = s.op(
        "lstm", x=s.x(), initial_h=states(s, 5, count, hidden, batch), initial_c=states(s, 6, count, hidden, batch),
        direction=direction, output_sequence=True, recurrent_activation=f, cell_activation=g, activation=h,
        clip=None if clip is None else np.float32(clip), **given,
    )  # fmt: skip
    if direction == "reverse":  # MIL gives the steps as they were made, the last of the sequence first
        y = s.op("reverse", x=y, axes=[0])
    return outputs(s, y, [last, cell], length, batch, count, hidden)


def outputs(s: Scope, y: Var, finals: list[Var], length: int, batch: int, count: int, hidden: int) -> list[Var | None]:
    """(length, batch, directions * hidden) as ONNX has it, and the last states."""
    found: list[Var | None] = []
    for i, tensor in enumerate(s.node.outputs):
        if not tensor.name:
            found.append(None)
        elif i == 0:
            found.append(s.transpose(s.reshape(y, [length, batch, count, hidden]), [0, 2, 1, 3]))
        else:
            found.append(s.transpose(s.reshape(finals[i - 1], [batch, count, hidden]), [1, 0, 2]))
    return found


@lowers("RNN", to="linear, tanh", limits="layout 1, lengths by sequence, more than 128 steps")
def rnn(s: Scope) -> Any:
    """h = f(W x + R h + b), unrolled."""
    return unrolled(s, 1, ["tanh"])


@lowers("GRU", to="linear, sigmoid, tanh", limits="layout 1, lengths by sequence, more than 128 steps")
def gru(s: Scope) -> Any:
    """z = f(..), r = f(..); h' = g(Wh x + r * (Rh h + bR) + bW), or g(Wh x + Rh (r * h) + bR + bW); unrolled."""
    return unrolled(s, 3, ["sigmoid", "tanh"])


def unrolled(s: Scope, gates: int, default: list[str]) -> list[Var | None]:
    """Every step written out."""
    directions, length, batch = check(s, "clip")
    if length > UNROLLED:
        raise Refused(f"{length} steps; up to {UNROLLED} are unrolled")
    w, r, bias = parameters(s, gates)
    count, hidden = len(directions), r.shape[2]
    names = activations(s, default, count)
    initial = states(s, 5, count, hidden, batch)
    steps = s.op("split", x=s.x(), num_splits=length, axis=0) if length > 1 else [s.x()]
    inputs = [s.op("squeeze", x=step, axes=[0]) for step in steps]
    sequences, finals = [], []
    for i, direction in enumerate(directions):
        h = s.op("slice_by_index", x=initial, begin=[0, i * hidden], end=[batch, (i + 1) * hidden])
        cell = Cell(s, w[i], r[i], bias[i], hidden, names)
        order = range(length) if direction == "forward" else range(length - 1, -1, -1)
        made: dict[int, Var] = {}
        for t in order:
            h = made[t] = cell.rnn(inputs[t], h) if gates == 1 else cell.gru(inputs[t], h)
        sequences.append(s.op("stack", values=[made[t] for t in range(length)], axis=0))
        finals.append(h)
    y = s.op("concat", values=sequences, axis=2) if count > 1 else sequences[0]
    last = s.op("concat", values=finals, axis=1) if count > 1 else finals[0]
    return outputs(s, y, [last], length, batch, count, hidden)


class Cell:
    """One step of one direction; its weights are shared by all steps."""

    def __init__(self, s: Scope, w: Array, r: Array, bias: Array, hidden: int, names: list[str]) -> None:
        self.s, self.hidden, self.names = s, hidden, names
        half = len(bias) // 2
        self.after = bool(s.attr("linear_before_reset", 0))
        gate = slice(0, 2 * hidden) if len(r) == 3 * hidden else slice(0, hidden)
        rest = slice(2 * hidden, 3 * hidden)
        self.w, self.b = s.constant(w), s.constant(bias[:half].astype(np.float32))
        self.r, self.rb = s.constant(r[gate]), s.constant(bias[half:][gate])
        self.rh: Var
        self.rhb: Var
        self.rh, self.rhb = (s.constant(r[rest]), s.constant(bias[half:][rest])) if len(r) > hidden else (None, None)

    def rnn(self, x: Var, h: Var) -> Var:
        """One step."""
        s = self.s
        total = s.op("add", x=s.op("linear", x=x, weight=self.w, bias=self.b), y=self._of_state(h))
        return s.op(self.names[0], x=total)

    def _of_state(self, h: Var) -> Var:
        return self.s.op("linear", x=h, weight=self.r, bias=self.rb)

    def gru(self, x: Var, h: Var) -> Var:
        """One step."""
        s, f, g = self.s, *self.names
        wx = s.op("linear", x=x, weight=self.w, bias=self.b)
        xz, xr, xh = s.op("split", x=wx, num_splits=3, axis=1)
        hz, hr = s.op("split", x=self._of_state(h), num_splits=2, axis=1)
        z, r = s.op(f, x=s.op("add", x=xz, y=hz)), s.op(f, x=s.op("add", x=xr, y=hr))
        if self.after:
            inner = s.op("mul", x=r, y=s.op("linear", x=h, weight=self.rh, bias=self.rhb))
        else:
            inner = s.op("linear", x=s.op("mul", x=r, y=h), weight=self.rh, bias=self.rhb)
        new = s.op(g, x=s.op("add", x=xh, y=inner))
        kept = s.op("mul", x=z, y=s.op("sub", x=h, y=new))
        return s.op("add", x=kept, y=new)
