"""The vocabulary of quantization: types, specs, encodings, places and the plan. No graph, no policy."""

from qcompiler.quant.plan import BiasOf, NodePlan, Precision, QuantPlan, Site, SitePlan
from qcompiler.quant.qtype import QTYPES, QType
from qcompiler.quant.spec import Encoding, Granularity, PerAxis, PerBlock, PerGroup, PerTensor, QSpec

__all__ = [
    "QTYPES",
    "BiasOf",
    "Encoding",
    "Granularity",
    "NodePlan",
    "PerAxis",
    "PerBlock",
    "PerGroup",
    "PerTensor",
    "Precision",
    "QSpec",
    "QType",
    "QuantPlan",
    "Site",
    "SitePlan",
]
