"""What a chip cannot do, and what must not be shipped."""

from dataclasses import replace

import numpy as np

from qcompiler.backends.qnn import legal
from qcompiler.backends.qnn.socs import parse
from qcompiler.quant import Site
from tests.backends.qnn.helper import convnet, quantized


def test_floating_point_by_architecture() -> None:
    chips = parse("sm8350,sm8450,sm8650")
    (failure,) = legal.failures(chips, ["a", "b"])
    assert failure.startswith("sm8350 (v68) has no floating point, which 'a', 'b' would need")
    (note,) = legal.notes(chips, ["a"])
    assert note.startswith("sm8450 (v69): float16 works in the emulator and is not confirmed")
    assert not legal.failures(chips, []) and not legal.notes(chips, [])


def test_many_names_are_cut() -> None:
    assert legal.shown([str(i) for i in range(7)]) == "'0', '1', '2', '3', '4' and 2 more"


def test_a_weight_with_a_zero_point_fails_with_16_bits_alone() -> None:
    model = convnet()
    conv = next(node.name for node in model.nodes if node.op == "Conv")
    for precision, failures in (("w8a8", 0), ("w8a16", 1)):
        plan = quantized(model, precision).plan
        assert not legal.shifted(plan)
        site = Site("w", conv, 1)
        encoding = plan.sites[site].encoding
        assert encoding is not None
        shifted = replace(encoding, zero_point=np.full_like(encoding.zero_point, 3))
        plan = plan.with_sites({site: replace(plan.sites[site], encoding=shifted)})
        assert len(legal.shifted(plan)) == failures
