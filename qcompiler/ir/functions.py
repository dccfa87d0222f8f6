"""Model-local functions, replaced by their bodies: the graph layer knows no functions.

Inlining is onnx's own. Before it, calls are counted: a cycle would never end, and functions that call each other twice
in a chain of forty would fill any memory. Initializers of the main graph take no part, so that weights are not copied.
"""

from __future__ import annotations

from collections.abc import Iterator

import networkx as nx
import onnx
from onnx import FunctionProto, ModelProto, NodeProto, inliner

from qcompiler.errors import ModelError
from qcompiler.ir.header import plain_domain
from qcompiler.ir.schemas import since

NODE_LIMIT = 1_000_000

Key = tuple[str, str, str]


def walk(nodes: Iterator[NodeProto]) -> Iterator[NodeProto]:
    """Nodes, and the nodes of their subgraphs."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]:
                yield from walk(iter(graph.node))


def inline_functions(proto: ModelProto) -> None:
    """Replaces every call of a model-local function in `proto`, and the functions themselves.

    Raises:
        ModelError: functions call each other in a cycle, are defined twice, grow beyond any use, or cannot be inlined.
    """
    if not proto.functions:
        return
    functions: dict[Key, FunctionProto] = {}
    for function in proto.functions:
        if functions.setdefault(_key(function.domain, function.name, function.overload), function) is not function:
            raise ModelError("function is defined twice", where=function.name)
    _check_size(proto, functions)
    skeleton = ModelProto(ir_version=proto.ir_version, opset_import=proto.opset_import, functions=proto.functions)
    graph = skeleton.graph
    graph.name = proto.graph.name
    for entry in ("node", "input", "output", "value_info"):
        getattr(graph, entry).extend(getattr(proto.graph, entry))
    for tensor in [*proto.graph.initializer, *(sparse.values for sparse in proto.graph.sparse_initializer)]:
        graph.initializer.add(name=tensor.name, data_type=tensor.data_type, dims=[0])
    _give_defaults(skeleton, functions)
    versions = {plain_domain(opset.domain): opset.version for opset in proto.opset_import}
    convert = [function for function in skeleton.functions if not _same_opset(function, versions)]
    try:
        result = inliner.inline_local_functions(skeleton, bool(convert))
    except Exception as error:  # whatever the C++ code throws arrives as one of several types
        lines = str(error).rpartition("failed: ")[2].strip().splitlines()
        raise ModelError(f"functions cannot be inlined: {lines[0] if lines else type(error).__name__}") from error
    for node in walk(iter(result.graph.node)):
        if _key(node.domain, node.op_type, node.overload) in functions:
            raise ModelError(
                "function cannot be inlined", where=node.op_type, hint="does it declare other opsets than the model?"
            )
    for entry in ("node", "value_info"):
        proto.graph.ClearField(entry)
        getattr(proto.graph, entry).extend(getattr(result.graph, entry))
    for function in proto.functions:
        for opset in function.opset_import:
            if plain_domain(opset.domain) not in versions:
                versions[plain_domain(opset.domain)] = opset.version
                proto.opset_import.append(onnx.helper.make_opsetid(opset.domain, opset.version))
    proto.ClearField("functions")


def _key(domain: str, name: str, overload: str) -> Key:
    return plain_domain(domain), name, overload


def _give_defaults(proto: ModelProto, functions: dict[Key, FunctionProto]) -> None:
    """Writes default values of function attributes into the calls, since onnx's inlining drops them (seen in 1.23)."""
    for nodes in (proto.graph.node, *(function.node for function in proto.functions)):
        for node in walk(iter(nodes)):
            called = functions.get(_key(node.domain, node.op_type, node.overload))
            if called is not None:
                given = {attribute.name for attribute in node.attribute}
                node.attribute.extend([default for default in called.attribute_proto if default.name not in given])


def _same_opset(function: FunctionProto, versions: dict[str, int]) -> bool:
    """Whether the function's operators mean the same in the model's opset; if so, it is said to have that opset.

    Else onnx has to convert the body, for which it must know the types of all tensors.
    """
    entry = next((opset for opset in function.opset_import if plain_domain(opset.domain) == ""), None)
    if entry is None or entry.version == versions.get("", entry.version):
        return True
    for node in walk(iter(function.node)):
        if plain_domain(node.domain) == "" and since(node.op_type, entry.version) != since(node.op_type, versions[""]):
            return False
    entry.version = versions[""]
    return True


def _check_size(proto: ModelProto, functions: dict[Key, FunctionProto]) -> None:
    """Refuses cycles and more nodes than any model has."""
    main: Key = ("", "", "the main graph")
    bodies = {key: list(walk(iter(function.node))) for key, function in functions.items()}
    bodies[main] = list(walk(iter(proto.graph.node)))
    calls = nx.DiGraph()
    calls.add_nodes_from(bodies)
    for key, nodes in bodies.items():
        for node in nodes:
            callee = _key(node.domain, node.op_type, node.overload)
            if callee in functions:
                calls.add_edge(key, callee)
    if not nx.is_directed_acyclic_graph(calls):
        cycle = [caller[1] for caller, _ in nx.find_cycle(calls)]
        raise ModelError("functions call each other in a cycle", where=" -> ".join([*cycle, cycle[0]]))
    sizes: dict[Key, int] = {}
    for key in reversed(list(nx.topological_sort(calls))):
        sizes[key] = sum(sizes.get(_key(node.domain, node.op_type, node.overload), 1) for node in bodies[key])
    if sizes[main] > NODE_LIMIT:
        raise ModelError(f"functions expand to {sizes[main]} nodes, more than {NODE_LIMIT}")
