"""Which node of the prepared graph each node of a planned graph works for."""

from __future__ import annotations

from qcompiler import ir


def owner_of(prepared: ir.Model, planned: ir.Model) -> dict[str, str]:
    """For each node of the planned graph the node of the prepared graph that it works for; "" where there is none.

    A node of the same name is its own owner. Another one works for whoever computes, in the prepared graph, the first
    known tensor downstream of it.
    """
    makers = {tensor.name: node.name for node in prepared.nodes for tensor in node.outputs if tensor.name}
    known = {node.name for node in prepared.nodes}
    owners: dict[str, str] = {}
    for node in reversed(planned.nodes):
        if node.name in known:
            owners[node.name] = node.name
            continue
        made = [makers[tensor.name] for tensor in node.outputs if tensor.name in makers]
        downstream = [owners[user.name] for tensor in node.outputs for user in tensor.outputs if user.name in owners]
        owners[node.name] = next(iter([*made, *downstream]), "")
    return owners
