"""Masks of Softmax: Softmax(s + m), m in {0, -3.4e38} -> the same with m in {0, -3e4}.

exp(s - 3e4 - max) is 0 in float32 and in float16 for every s that float16 holds, so any number that large serves; the
one that exporters write is infinite in float16, and a row of nothing but infinities is NaN. What a mask is, and what is
made of infinity itself: `passes.prepare.finite_masks`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from qcompiler import ir
from qcompiler.backends.tensorrt.keep_single import LIMIT, is_single
from qcompiler.passes.prepare.finite_masks import reached
from qcompiler.pipeline import GraphPass, PassRecord


@dataclass(frozen=True)
class SoftenMasks(GraphPass):
    """Replaces masks in the main graph. Runs before floats become 16 bits wide.

    Attributes:
        values: names of what is computed from masks, up to Softmax; filled by `apply`.
    """

    name: ClassVar[str] = "soften-masks"
    values: set[str] = field(default_factory=set)

    def apply(self, model: ir.Model, record: PassRecord) -> None:
        """Each mask is a change."""
        edit = ir.Editor(model, model.graph)
        for constant in list(model.constants()):
            if not is_single(constant) or not ir.nbytes(constant):
                continue
            numbers = ir.array(constant)
            if not (np.abs(numbers) > LIMIT).any() or np.isnan(numbers).any():
                continue
            cone = reached(edit, edit.uses(constant))
            if cone is None:
                continue
            self.values.update(tensor.name for tensor in cone)
            soft = edit.constant(f"{constant.name}_soft", np.clip(numbers, -LIMIT, LIMIT))
            self.values.add(soft.name)
            edit.replace_uses(constant, soft)
            record.changes += 1
            record.notes.append(f"mask {constant.name!r}: numbers beyond {LIMIT:.0g} become that, for float16")
