"""What a node must be besides its operands, so that TensorRT computes it in few bits. Sections: the fact sheet's."""

from __future__ import annotations

from collections.abc import Callable

from qcompiler import ir
from qcompiler.backends.tensorrt.attention import is_product, partner
from qcompiler.targets import Condition

SMALLEST = 16
"""Rows and columns from which on tensor cores take a matrix (section 5.2)."""


def not_depthwise(node: ir.Node) -> str | None:
    """The builder expands depthwise kernels to dense ones (section 3.1)."""
    weight = node.inputs[1].shape
    groups = int(node.attrs.get("group", 1))
    if groups > 1 and weight is not None and weight[1] == 1:
        return f"Conv {node.name!r} is depthwise; TensorRT expands its kernels in int8"
    return None


def wide_enough(least: int) -> Condition:
    """Tensor cores take 16 channels; what is padded to that gains nothing, and first layers lose most (section 5.2)."""

    def condition(node: ir.Node) -> str | None:
        rows, columns = node.inputs[1].shape[:2]
        few = min(int(rows), int(columns) * int(node.attrs.get("group", 1)))
        return (
            f"Conv {node.name!r} has {few} channels, under {least}: too few for tensor cores" if few < least else None
        )

    return condition


def matrix(node: ir.Node) -> str | None:
    """A constant second operand of rank 2 that tensor cores take."""
    weight = node.inputs[1]
    if not isinstance(weight, ir.Constant):
        return f"both operands of {node.op} {node.name!r} are computed, and it is no part of an attention"
    if len(weight.shape) != 2:
        return f"weight {weight.name!r} of {node.op} {node.name!r} has rank {len(weight.shape)}, not 2"
    if min(weight.shape) < SMALLEST:
        return f"weight {weight.name!r} of {node.op} {node.name!r} has a side under {SMALLEST}: no tensor cores"
    return None


def blocks_of(size: int, *, single: bool) -> Condition:
    """Whole blocks of `size` weights along the dimension that is summed over; with `single` more than one.

    A single INT4 block is scaled like a channel, and the builder then unpacks the weights at every run.
    """

    def condition(node: ir.Node) -> str | None:
        weight = node.inputs[1]
        depth = int(weight.shape[1 if node.op == "Gemm" and node.attrs.get("transB", 0) else 0])
        if depth % size:
            return f"{node.op} {node.name!r} sums over {depth} values, no multiple of {size}"
        return f"{node.op} {node.name!r} sums over one block of {size}" if single and depth == size else None

    return condition


def in_attention(node: ir.Node) -> str | None:
    """One of the two products of an attention whose other one is there too."""
    if not is_product(node) or partner(node) is None:
        return f"{node.op} {node.name!r} is no part of an attention"
    return None


def not_split(node: ir.Node) -> str | None:
    """Where one product gives Q, K and V, the builder takes it apart, unpacks its weights at every run, and multiplies
    floats (tensorrt-rtx 1.7, seen in its listing; not so with INT4)."""
    tensor = node.outputs[0]
    for _ in range(3):
        readers = list(tensor.outputs)
        operators = {reader.op for reader in readers}
        if operators == {"Split"} or (operators == {"Slice"} and len(readers) > 1):
            return f"the result of {node.op} {node.name!r} is split; the builder would unpack its weights at every run"
        if len(readers) != 1 or readers[0].op not in ("Add", "Reshape", "Transpose"):
            return None
        tensor = readers[0].outputs[0]
    return None


def skip_at(port: int) -> Condition:
    """`Add` whose operand `port` goes around the convolutions that end in the other operand (section 5.1, rule 4).

    The other one is a convolution's result that only the Add reads; where both are, the skip is the one behind fewer
    convolutions, the second one where that is equal.
    """

    def condition(node: ir.Node) -> str | None:
        ends = [conv_before(tensor) for tensor in node.inputs]
        if ends[1 - port] is None:
            return f"operand {1 - port} of Add {node.name!r} is no result of a convolution of its own"
        if ends[port] is not None:
            depths = [depth(tensor) for tensor in node.inputs]
            skip = 0 if depths[0] < depths[1] else 1
            if skip != port:
                return f"operand {port} of Add {node.name!r} is the main branch"
        return None

    return condition


def conv_before(tensor: ir.Tensor) -> ir.Node | None:
    """The Conv that computes a value which one node alone reads."""
    node = tensor.inputs[0] if tensor.inputs and len(tensor.outputs) == 1 else None
    return node if node is not None and node.op == "Conv" else None


def depth(tensor: ir.Tensor, most: int = 6) -> int:
    """Convolutions on the longest way back, through operators with one computed operand; at most `most`."""
    count = 0
    for _ in range(4 * most):
        if not tensor.inputs or count == most:
            break
        node = tensor.inputs[0]
        count += node.op == "Conv"
        computed = [t for t in node.inputs if t.inputs]
        if len(computed) != 1:
            break
        tensor = computed[0]
    return count


def never(reason: str) -> Callable[[ir.Node], str]:
    """A condition that no node meets: what the hardware does not do, in words for the report."""
    return lambda node: f"{node.op} {node.name!r}: {reason}"
