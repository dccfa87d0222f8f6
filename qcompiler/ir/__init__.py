"""The graph: load, save, edit, verify, print. The only package that imports onnx_graphsurgeon."""

from onnx_graphsurgeon import Constant, Graph, Node, Tensor, Variable

from qcompiler.ir.cut import Cutter
from qcompiler.ir.dag import dag, reads, topological
from qcompiler.ir.edit import Editor, Use, editors
from qcompiler.ir.exporter import export_attribute, export_node
from qcompiler.ir.graft import declare, drop_input, drop_output, freeze, graft, inline, lazy, lone
from qcompiler.ir.load import deserialized, load
from qcompiler.ir.model import Model
from qcompiler.ir.save import pieces, save, serialized
from qcompiler.ir.schemas import schema, since
from qcompiler.ir.skeleton import skeleton
from qcompiler.ir.text import to_text
from qcompiler.ir.verify import verify
from qcompiler.ir.weights import Deferred, Lazy, array, dense, element_type, nbytes, on_disk

__all__ = [
    "Constant",
    "Cutter",
    "Deferred",
    "Editor",
    "Graph",
    "Lazy",
    "Model",
    "Node",
    "Tensor",
    "Use",
    "Variable",
    "array",
    "dag",
    "declare",
    "dense",
    "deserialized",
    "drop_input",
    "drop_output",
    "editors",
    "element_type",
    "export_attribute",
    "export_node",
    "freeze",
    "graft",
    "inline",
    "lazy",
    "load",
    "lone",
    "nbytes",
    "on_disk",
    "pieces",
    "reads",
    "save",
    "schema",
    "serialized",
    "since",
    "skeleton",
    "to_text",
    "topological",
    "verify",
]
