"""Conditions that rules of several targets have in common; each gives the reason against a node, or None.

What one target alone demands stands with its table.
"""

from __future__ import annotations

from qcompiler import ir


def unscaled_gemm(node: ir.Node) -> str | None:
    """A Gemm of alpha, beta = 1 and an untransposed input."""
    if any(float(node.attrs.get(name, 1.0)) != 1.0 for name in ("alpha", "beta")) or node.attrs.get("transA", 0):
        return f"Gemm {node.name!r} has alpha, beta or transA"
    return None


def plain_gemm(node: ir.Node) -> str | None:
    """A Gemm of alpha, beta = 1 and an untransposed input; its bias is one row."""
    reason = unscaled_gemm(node)
    if reason is None and len(node.inputs) > 2 and node.inputs[2].name:
        bias, columns = node.inputs[2].shape, node.inputs[1].shape[0 if node.attrs.get("transB", 0) else 1]
        if bias is None or list(bias) != [columns]:
            return f"bias of Gemm {node.name!r} is not one value for each column"
    return reason


def nearest(node: ir.Node) -> str | None:
    """A Resize that copies values: nearest-neighbour."""
    mode = node.attrs.get("mode", "nearest")
    return None if mode == "nearest" else f"Resize {node.name!r} interpolates ({mode})"


def no_indices(node: ir.Node) -> str | None:
    """A pool that returns no indices."""
    return f"{node.op} {node.name!r} returns indices" if len(node.outputs) > 1 and node.outputs[1].name else None
