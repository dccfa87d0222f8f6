"""Conv(x; K x K, stride 2) on few channels -> Conv(SpaceToDepth(x); stride 1) on four times as many. Exact.

Row i of the kernel reads row 2 o + i - p of x (o: output row, p: begin padding), that is row o + (i - p) div 2 of the
parity (i - p) mod 2. SpaceToDepth(2) puts the four parities of rows and columns into channels, so

    y[o] = sum over a = i - p of W[i] x[2 o + a] = sum over q, r of W'[q, r] x'[o + q, r],  q = a div 2, r = a mod 2

with q from -((p + 1) div 2) to (K - 1 - p) div 2. Taps of W' without a partner in W are zero. Where a side of x is odd,
a row of zeros is added at the end, which is what the padding of Conv held there, or is never read.

Integer kernels of Conv work on whole groups of four channels, so 3 channels of a 7 x 7 kernel waste most of the work:
7 x 7, 3 -> 64 at 224: 1.59 ms as it is, 1.20 ms like this; 6 x 6, 3 -> 16 at 640: 6.06 and 3.86 ms; 3 x 3, 3 -> 32 at
224: 0.63 and 0.46 ms (docs: ONNX Runtime fact sheet, rule 13 and section 5). SpaceToDepth has no kernel for uint8, so x
must be stored in float.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from qcompiler import ir
from qcompiler.passes.condition.stem import find, spatial
from qcompiler.pipeline import GraphPass, PassRecord
from qcompiler.rewrite import Refusal
from qcompiler.targets import TargetSpec

MOST_CHANNELS = 4
BLOCK = 2


@dataclass(frozen=True)
class SpaceToDepthStem(GraphPass):
    """Rewrites convolutions that read few channels of a float value.

    Attributes:
        target: decides which nodes compute in integers.
        keep_float: as in `annotate`.
        aliases: filled by the pass: the tensor of the prepared model that holds the values of a new one.
    """

    name: ClassVar[str] = "space-to-depth-stem"
    target: TargetSpec
    keep_float: tuple[str, ...] = ()
    aliases: dict[str, str] = field(default_factory=dict)

    def apply(self, model: ir.Model, record: PassRecord) -> None:
        """Rewrites Conv nodes of the main graph in place: they keep their names and those of their results."""
        edit = ir.Editor(model, model.graph)
        for conv in find(model, self.target, self.keep_float, MOST_CHANNELS):
            strides, _, _ = spatial(conv)
            if strides != [BLOCK, BLOCK]:
                continue
            reason = refusal(conv)
            if reason is not None:
                record.refusals.append(Refusal(self.name, conv.name, reason))
                continue
            self._rewrite(edit, conv)
            record.changes += 1

    def _rewrite(self, edit: ir.Editor, conv: ir.Node) -> None:
        x, (n, c, *sizes), weight = conv.inputs[0], conv.inputs[0].shape, ir.array(conv.inputs[1])
        _, pads, kernel = spatial(conv)
        out = [(s + pads[i] + pads[i + 2] - kernel[i]) // BLOCK + 1 for i, s in enumerate(sizes)]
        source = x
        if any(size % BLOCK for size in sizes):
            more = [size % BLOCK for size in sizes]
            amounts = edit.constant(f"{conv.name}_even_pads", np.array([0, 0, 0, 0, 0, 0, *more], np.int64))
            sizes = [size + extra for size, extra in zip(sizes, more, strict=True)]
            even = edit.variable(f"{conv.name}_even_out", x.dtype, [n, c, *sizes])
            edit.add("Pad", [x, amounts], name=f"{conv.name}_even", outputs=[even])
            self.aliases[even.name] = x.name
            source = even
        halves = [size // BLOCK for size in sizes]
        deep = edit.variable(f"{conv.name}_deep_out", x.dtype, [n, c * BLOCK**2, *halves])
        edit.add("SpaceToDepth", [source], name=f"{conv.name}_deep", attrs={"blocksize": BLOCK}, outputs=[deep])
        self.aliases[deep.name] = x.name

        folded, first = fold_weight(weight, pads[:2])
        begin = [-q for q in first]
        end = [o + k - 1 - h - b for o, k, h, b in zip(out, folded.shape[2:], halves, begin, strict=True)]
        constant = edit.constant(f"{conv.inputs[1].name}_deep", folded)
        self.aliases[constant.name] = conv.inputs[1].name
        conv.attrs.pop("auto_pad", None)
        conv.attrs |= {"strides": [1, 1], "kernel_shape": list(folded.shape[2:]), "pads": [*begin, *end]}
        edit.set_inputs(conv, [deep, constant, *conv.inputs[2:]])


def refusal(conv: ir.Node) -> str | None:
    """Why a Conv with stride 2 cannot be written on blocks."""
    what, (_, _, *sizes), (_, pads, kernel) = f"Conv {conv.name!r}", conv.inputs[0].shape, spatial(conv)
    if not all(isinstance(size, int) for size in sizes):
        return f"height or width of {conv.inputs[0].name!r} is not known, and might be odd"
    if max(kernel) < BLOCK:
        return f"kernel of {what} is smaller than a block"
    for i, size in enumerate(sizes):
        even, (_, last) = size + size % BLOCK, taps(kernel[i], pads[i])
        out = (size + pads[i] + pads[i + 2] - kernel[i]) // BLOCK + 1
        if out + last < even // BLOCK:
            return f"{what} leaves rows or columns at the end of {conv.inputs[0].name!r} unread"
    return None


def taps(kernel: int, begin: int) -> tuple[int, int]:
    """The first and the last block that a kernel of this size and begin padding reads, counted from its own."""
    return -begin // BLOCK, (kernel - 1 - begin) // BLOCK


def fold_weight(weight: npt.NDArray[np.float32], begin: list[int]) -> tuple[npt.NDArray[np.float32], list[int]]:
    """The weight (O, C, K, L) on blocks, (O, 4 C, K', L'), and the first block it reads in each direction."""
    o, c, *kernel = weight.shape
    ranges = [taps(k, p) for k, p in zip(kernel, begin, strict=True)]
    folded = np.zeros((o, BLOCK**2 * c, *(last - first + 1 for first, last in ranges)), np.float32)
    for i, j in np.ndindex(*kernel):
        (row, up), (column, left) = divmod(i - begin[0], BLOCK), divmod(j - begin[1], BLOCK)
        at = c * (BLOCK * up + left)
        folded[:, at : at + c, row - ranges[0][0], column - ranges[1][0]] = weight[:, :, i, j]
    return folded, [first for first, _ in ranges]
