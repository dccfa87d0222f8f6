"""The builder's listing of kernels, read: what runs, in which types, for which nodes of ours.

With DETAILED verbosity the builder says of each kernel its kind, the types of inputs, constants and outputs, and the
ONNX nodes that it computes (fact sheet, section 4). A node computes in the types of the kernel that multiplies for it:
a convolution, a GEMM, or a fused attention; what stands in pointwise kernels only (scale, bias) does not count.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

MULTIPLIES = frozenset({"correlation", "gemm", "runtime_fusion", "deconv"})
MARKERS = frozenset({"signal", "wait"})
"""Between streams; no kernels."""
NAMES = {
    "Float": "fp32", "Half": "fp16", "BFloat16": "bf16", "Int8": "int8", "FP8": "fp8", "Int4": "w4",
    "FP4E2M1": "nvfp4",
}  # fmt: skip
NARROW = ("nvfp4", "fp8", "int8", "w4")
FLOATS = ("fp16", "bf16", "fp32")

_ROW = re.compile(r"^Name: (?P<name>.*?), LayerType: (?P<kind>\w+), Inputs: \[(?P<inputs>.*?)\], Constants: "
                  r"\[(?P<constants>.*?)\], Outputs: \[(?P<outputs>.*?)\], TacticName", re.DOTALL)  # fmt: skip
_TYPE = re.compile(r"Datatype: (\w+)")
_MOVES = re.compile(r"__myl_(?:Move|Cast|Tran|Resh|Repl)+_myl\d+_\d+")
_NODE = re.compile(r"\[ONNX Layer: ([^\]]*)\]")


@dataclass(frozen=True)
class Kernel:
    """One kernel.

    Attributes:
        name, kind: in the builder's words.
        inputs, constants, outputs: types, by our names (`NAMES`), the builder's word where there is none.
        nodes: the ONNX nodes that it computes.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    constants: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[str, ...]

    @property
    def multiplies(self) -> bool:
        """Whether matrices or kernels are multiplied in it."""
        return self.kind in MULTIPLIES or "mha" in self.name.lower() or "gemm" in self.name.lower()

    @property
    def computes(self) -> str:
        """The type of what it multiplies; else the first float type in it.

        Both operands must be narrow: one alone is dequantized inside the kernel, or its partner was before.
        """
        operands = [*self.inputs, *self.constants] if self.multiplies else []
        found = next((name for name in NARROW if name in operands), "")
        if found in self.constants and found not in self.inputs:
            return "w8" if found == "int8" else found
        if found and operands.count(found) > 1:
            return found
        return next((name for name in (*self.inputs, *self.outputs) if name in FLOATS), "integer")

    @property
    def unpacks_weights(self) -> bool:
        """Weights are dequantized here at each run: it has no inputs, and constants of few bits (section 4)."""
        unpacks = any(name in NARROW for name in self.constants) and any(name in FLOATS for name in self.outputs)
        return self.kind == "kgen" and not self.inputs and unpacks

    @property
    def moves(self) -> bool:
        """Changes the type or the layout of values, and nothing else."""
        return self.kind == "kgen" and bool(_MOVES.fullmatch(self.name))


def kernels(listing: str) -> list[Kernel]:
    """The kernels of a listing, markers left out."""
    found = []
    for row in listing.splitlines():
        match = _ROW.match(row)
        if match is None or match["kind"] in MARKERS:
            continue
        inputs, constants, outputs = (
            tuple(NAMES.get(word, word) for word in _TYPE.findall(match[part]))
            for part in ("inputs", "constants", "outputs")
        )
        nodes = tuple(dict.fromkeys(_NODE.findall(row)))
        found.append(Kernel(match["name"], match["kind"], inputs, constants, outputs, nodes))
    return found


def by_node(found: Sequence[Kernel]) -> Mapping[str, str]:
    """The type that each ONNX node computes in: that of the kernel that multiplies for it, else of its first one."""
    types: dict[str, str] = {}
    for kernel in sorted(found, key=lambda kernel: not kernel.multiplies):
        for node in kernel.nodes:
            types.setdefault(node, kernel.computes)
    return types


def by_type(found: Sequence[Kernel]) -> dict[str, int]:
    """How many kernels compute in each type, most first."""
    counts = Counter(kernel.computes for kernel in found)
    return dict(sorted(counts.items(), key=lambda entry: (-entry[1], entry[0])))
