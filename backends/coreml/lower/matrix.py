"""Products of matrices. A constant second operand makes `linear`, which the Neural Engine takes; else `matmul`."""

from __future__ import annotations

import numpy as np

from qcompiler.backends.coreml.lower.conv import known_bias
from qcompiler.backends.coreml.lower.scope import Array, Refused, Scope, Var, type_of
from qcompiler.backends.coreml.lower.stored import stored, weight
from qcompiler.backends.coreml.lower.table import lowers


def matrix(s: Scope, port: int, transposed: bool) -> Var | None:
    """A constant matrix as (rows = outputs, columns = inputs); None where it is computed or has another rank."""
    found = stored(s.node.inputs[port])
    if found is not None and found.codes.ndim == 2:
        return weight(s, port, [0, 1] if transposed else [1, 0])
    values = s.known(port)
    if values is None or values.ndim != 2 or values.dtype.kind != "f":
        return None
    return s.constant(values if transposed else np.ascontiguousarray(values.T), s.node.inputs[port].name)


def half_or_float(*values: Var) -> None:
    """Refuses products of integers: MIL's run in float."""
    if any(type_of(value) not in ("fp32", "fp16") for value in values):
        raise Refused("a product of integer matrices")


@lowers("MatMul", to="linear, matmul", limits="integers")
def matmul(s: Scope) -> Var:
    """numpy.matmul"""
    x = s.x(0)
    half_or_float(x)
    constant = matrix(s, 1, transposed=False) if s.rank() >= 1 else None
    if constant is not None and s.rank() in (2, 3):
        return s.op("linear", x=x, weight=constant)
    return product(s, x, weight(s, 1))


def product(s: Scope, x: Var, y: Var, transpose_y: bool = False) -> Var:
    """matmul of values in one float type."""
    half_or_float(x, y)
    x, y = s.alike(x, y)
    flat = int(x.rank) == 1, int(y.rank) == 1
    if any(flat) and not all(flat):  # MIL infers another shape for a vector beside a batch
        x = s.op("expand_dims", x=x, axes=[0]) if flat[0] else x
        y = s.op("expand_dims", x=y, axes=[1]) if flat[1] else y
        found = s.op("matmul", x=x, y=y, transpose_x=False, transpose_y=transpose_y)
        return s.op("squeeze", x=found, axes=[int(found.rank) - (2 if flat[0] else 1)])
    return s.op("matmul", x=x, y=y, transpose_x=False, transpose_y=transpose_y)


@lowers("Gemm", to="linear, matmul, add", limits="integers")
def gemm(s: Scope) -> Var:
    """alpha * A' * B' + beta * C; alpha and beta go into constants where they can."""
    x = s.x(0)
    half_or_float(x)
    alpha, beta = float(s.attr("alpha", 1.0)), float(s.attr("beta", 1.0))
    if s.attr("transA", 0):
        x = s.transpose(x, [1, 0])
    constant = matrix(s, 1, bool(s.attr("transB", 0)))
    columns = 0 if constant is None else int(constant.shape[0])
    bias = s.known(2)
    flat = bias is not None and bias.size in (1, columns) and all(d == 1 for d in bias.shape[:-1])
    if constant is not None and alpha == 1.0 and (flat or not s.has(2)):
        vector = None
        if bias is not None:
            vector = s.constant(np.broadcast_to(bias.reshape(-1) * np.asarray(beta, bias.dtype), (columns,)).copy())
        return s.op("linear", x=x, weight=constant, bias=vector)
    if constant is not None:
        found = s.op("linear", x=x, weight=constant)
    else:
        found = product(s, x, s.x(1), bool(s.attr("transB", 0)))
    if alpha != 1.0:
        found = s.op("mul", x=found, y=s.scalar(alpha, found))
    if not s.has(2) or beta == 0.0:
        return found
    added = s.x(2) if beta == 1.0 else s.op("mul", x=s.x(2), y=s.scalar(beta, found))
    return s.op("add", x=found, y=added)


@lowers("FusedMatMul", to="matmul", domain="com.microsoft", limits="transBatchA, transBatchB")
def fused_matmul(s: Scope) -> Var:
    """alpha * A' * B'"""
    if s.attr("transBatchA", 0) or s.attr("transBatchB", 0):
        raise Refused("batches are transposed")
    turn = {"transpose_x": bool(s.attr("transA", 0)), "transpose_y": bool(s.attr("transB", 0))}
    found, alpha = s.op("matmul", x=s.x(0), y=s.x(1), **turn), float(s.attr("alpha", 1.0))
    return found if alpha == 1.0 else s.op("mul", x=found, y=s.scalar(alpha, found))


@lowers(
    "Einsum", to="transpose, reshape, matmul, reduce_sum", limits="'...', an index twice in one operand, open shapes"
)
def einsum(s: Scope) -> Var:
    """Operands one by one: transposed to (batch, rows, inner), multiplied as matrices, transposed back."""
    equation = str(s.attr("equation")).replace(" ", "")
    if "." in equation:
        raise Refused("'...' in the equation")
    left, arrow, right = equation.partition("->")
    terms = left.split(",")
    if not arrow:
        letters = left.replace(",", "")
        right = "".join(sorted(c for c in set(letters) if letters.count(c) == 1))
    if any(len(set(term)) < len(term) for term in terms):
        raise Refused("an index stands twice in one operand")
    values = [s.x(port) for port in range(len(terms))]
    sizes: dict[str, int] = {}
    for port, term in enumerate(terms):
        sizes.update(zip(term, s.shape(port), strict=True))
    term, value = terms[0], values[0]
    for i, other in enumerate(terms[1:], 1):
        later = set("".join(terms[i + 1 :])) | set(right)
        term, value = pair(s, term, value, other, values[i], later, sizes)
    spare = [i for i, c in enumerate(term) if c not in right]
    if spare:
        value = summed(s, term, value, set(right))[1]
        term = "".join(c for c in term if c in right)
    return s.transpose(value, [term.index(c) for c in right]) if term else value


def pair(s: Scope, a: str, x: Var, b: str, y: Var, later: set[str], sizes: dict[str, int]) -> tuple[str, Var]:
    """Two operands as one product of matrices; gives the indices of the result and the result."""
    half_or_float(x, y)
    a, x = summed(s, a, x, set(b) | later)
    b, y = summed(s, b, y, set(a) | later)
    batch = [c for c in a if c in b and c in later]
    inner = [c for c in a if c in b and c not in later]
    rows, columns = [c for c in a if c not in b], [c for c in b if c not in a]
    if not batch and not inner and not rows and not columns:
        return "", s.op("mul", x=x, y=y)
    x = s.transpose(x, [a.index(c) for c in (*batch, *rows, *inner)]) if a else x
    y = s.transpose(y, [b.index(c) for c in (*batch, *inner, *columns)]) if b else y

    def size(names: list[str]) -> int:
        return int(np.prod([sizes[c] for c in names], dtype=np.int64))

    x = s.reshape(x, [size(batch), size(rows), size(inner)])
    y = s.reshape(y, [size(batch), size(inner), size(columns)])
    found = s.op("matmul", x=x, y=y, transpose_x=False, transpose_y=False)
    names = [*batch, *rows, *columns]
    if not names:
        return "", s.op("squeeze", x=found, axes=[0, 1, 2])
    return "".join(names), s.reshape(found, [sizes[c] for c in names])


def summed(s: Scope, term: str, x: Var, wanted: set[str]) -> tuple[str, Var]:
    """Sums over the indices of an operand that nothing else has."""
    spare = [i for i, c in enumerate(term) if c not in wanted]
    if not spare:
        return term, x
    return "".join(c for c in term if c in wanted), s.op("reduce_sum", x=x, axes=spare, keep_dims=False)


@lowers("MatMulNBits", to="constexpr_blockwise_shift_scale, linear", domain="com.microsoft",
        limits="g_idx, bits other than 4 and 8, zero points in float")  # fmt: skip
def matmul_nbits(s: Scope) -> Var:
    """x * dequantized(B)': codes in blocks along the inputs, packed low nibble first."""
    from qcompiler.backends.coreml.lower.stored import Linear, emitted

    bits, block = int(s.attr("bits", 4)), int(s.attr("block_size"))
    rows, columns = int(s.attr("N")), int(s.attr("K"))
    if s.has(4) or bits not in (4, 8):
        raise Refused("g_idx, or bits other than 4 and 8")
    blocks = -(-columns // block)
    if columns % block:
        raise Refused(f"{columns} inputs are no multiple of the block of {block}")
    codes = unpacked(raw(s, 1), bits).reshape(rows, -1)[:, :columns]
    scale = raw(s, 2).astype(np.float32).reshape(rows, blocks)
    middle = 1 << (bits - 1)
    if s.has(3):
        packed = raw(s, 3)
        if packed.dtype != np.uint8:
            raise Refused("zero points in float")
        zero = unpacked(packed.reshape(rows, -1), bits).reshape(rows, -1)[:, :blocks].astype(np.int32)
    else:
        zero = np.full((rows, blocks), middle, np.int32)
    signed = Linear((codes.astype(np.int32) - middle).astype(np.int8), scale, zero - middle, bits)
    vector = known_bias(s, 5)
    return s.op("linear", x=s.x(0), weight=emitted(s, signed, s.node.inputs[1].name), bias=vector)


def raw(s: Scope, port: int) -> Array:
    """A constant input as it is stored."""
    from qcompiler import ir

    tensor = s.node.inputs[port]
    if not isinstance(tensor, ir.Constant):
        raise Refused(f"{tensor.name!r} is computed; it must be constant")
    return ir.array(tensor)


def unpacked(packed: Array, bits: int) -> Array:
    """Codes of 4 or 8 bits, low nibble first."""
    if bits == 8:
        return packed
    return np.stack([packed & 15, packed >> 4], axis=-1).reshape(*packed.shape[:-1], -1)
