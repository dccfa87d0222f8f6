"""The provider's trace in terms of our nodes."""

from qcompiler.backends.qnn.trace import understood
from tests.backends.qnn.helper import convnet, quantized


def mapping(kind: str, *sources: str, name: str = "op") -> dict[str, object]:
    return {"dst_name": name, "dst_qnn_op_type": kind, "sources": [{"name": s, "type": "OP"} for s in sources]}


def test_nodes_islands_and_borders() -> None:
    model = quantized(convnet(), "w8a8").model
    conv, pool, add = (next(n.name for n in model.nodes if n.op == op) for op in ("Conv", "MaxPool", "Add"))
    data = {
        "subgraph_traces": [
            {
                "op_mappings": [
                    mapping("Quantize", "x_quantize"),
                    mapping("Conv2d", "x_dequantize", "w_dequantize", f"{conv}_token_3", "r_quantize"),
                    mapping("Dequantize", "r_dequantize", name="inner"),
                    mapping("PoolMax2d", pool),
                    mapping("Convert", "m_dequantize", "m_quantize", name="there"),
                    mapping("Dequantize", "y_dequantize"),
                ]
            }
        ],
        "unsupported_nodes": [{"node_name": f"{add}_token_12", "reason": "no", "op_type": "Add", "node_index": 7}],
    }
    found = understood(data, model)
    assert found.nodes == {conv: ("Conv2d",), pool: ("PoolMax2d",)}
    assert found.islands == (pool,) and found.borders == ("inner",) and found.converts == ("there",)
    assert found.refused == {add: "no"} and found.partitions == 1
    assert found.ops == {"Conv2d": 1, "Convert": 1, "Dequantize": 2, "PoolMax2d": 1, "Quantize": 1}
