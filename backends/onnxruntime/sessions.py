"""Session options that may make a graph faster: the default ones, and one optimizer less for each that did harm.

    SkipLayerNormFusion         Add and LayerNormalization became SkipLayerNormalization (rule 18)
    MatMulAddFusion             MatMul and Add became a float Gemm behind DQ (rule 8)
    WeightBiasQuantization      a float island was quantized per tensor (rule 7)
    QDQPropagationTransformer   a MaxPool behind a float stem moves uint8 values in NCHW (rule 12)
    NhwcTransformer             something runs in NHWC: 9 % faster without on one network, slower on others (section 7)

Whether one pays is for measuring; nothing is offered for what does not occur in the optimised graph. The level stays
"all": QDQ under any lower one loses the integer layouts (rule 20). docs: ONNX Runtime fact sheet, section 7.
"""

from __future__ import annotations

from qcompiler import ir
from qcompiler.analysis import SessionConfig
from qcompiler.backends.onnxruntime.gate import optimised
from qcompiler.backends.onnxruntime.traps import caught
from qcompiler.backends.onnxruntime.view import attribute

LAYOUT = "NhwcTransformer"


def sessions(model: ir.Model) -> tuple[SessionConfig, ...]:
    """The default session first, then one for each optimizer that might be left out.

    Raises:
        ModelError: ONNX Runtime refuses the model.
    """
    graph = optimised(model, SessionConfig())
    names = [trap.optimizer for trap, _, _ in caught(graph, model) if trap.optimizer]
    if any(node.op_type == "NhwcMaxPool" or attribute(node, "channels_last", 0) for node in graph.node):
        names.append(LAYOUT)
    return (SessionConfig(), *(SessionConfig(disabled_optimizers=(name,)) for name in dict.fromkeys(names)))
