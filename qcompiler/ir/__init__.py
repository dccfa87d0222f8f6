"""The graph: load, save, edit, verify, print. The only package that imports onnx_graphsurgeon."""

from onnx_graphsurgeon import Constant, Graph, Node, Tensor, Variable

from qcompiler.ir.dag import dag, reads, topological
from qcompiler.ir.edit import Editor, Use, editors
from qcompiler.ir.graft import drop_input, drop_output, freeze, graft, inline, lone
from qcompiler.ir.model import Model
from qcompiler.ir.skeleton import skeleton
from qcompiler.ir.verify import verify
from qcompiler.ir.weights import array, nbytes

__all__ = [
    "Constant",
    "Editor",
    "Graph",
    "Model",
    "Node",
    "Tensor",
    "Use",
    "Variable",
    "array",
    "dag",
    "drop_input",
    "drop_output",
    "editors",
    "freeze",
    "graft",
    "inline",
    "lone",
    "nbytes",
    "reads",
    "skeleton",
    "topological",
    "verify",
]
