"""The ONNX Runtime backend: the table, the rewrites that it profits from, the gate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from qcompiler import ir
from qcompiler.backends.conformance import Conformance
from qcompiler.backends.onnxruntime.inspect import inspect
from qcompiler.backends.onnxruntime.spec import SPEC, U8
from qcompiler.passes.condition.integer_hard_activations import IntegerHardActivations
from qcompiler.pipeline import GraphPass
from qcompiler.quant import Encoding, NodePlan, Precision, Site
from qcompiler.targets import TargetSpec


@dataclass(frozen=True)
class OnnxRuntime:
    """See `qcompiler.backends.base.Backend`."""

    spec: TargetSpec = SPEC

    @property
    def version(self) -> str:
        """Version of the installed onnxruntime."""
        import onnxruntime

        return str(onnxruntime.__version__)

    def condition(
        self, precision: Precision, keep_float: tuple[str, ...]
    ) -> tuple[Sequence[GraphPass], Mapping[Site, Encoding]]:
        """Hard activations in integer form where the precision is int8."""
        if precision != "int8":
            return (), {}
        step = IntegerHardActivations(self.spec, U8, keep_float)
        return (step,), step.given

    def inspect(self, model: ir.Model, plan: Mapping[str, NodePlan]) -> Conformance:
        """See `inspect`."""
        return inspect(model, plan)


BACKEND = OnnxRuntime()
