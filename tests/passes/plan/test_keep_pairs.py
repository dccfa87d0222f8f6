"""keep-pairs: codes that rounding moved over the bound of a pair go back, channel by channel, and no others do."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.passes.lower.codes import nearest
from qcompiler.passes.plan.avoid_saturation import AvoidSaturation, largest_sum
from qcompiler.passes.plan.encode import encode_constant
from qcompiler.passes.plan.keep_pairs import KeepPairs
from qcompiler.passes.plan.round_kernels import kernel_codes
from qcompiler.pipeline import Pipeline
from qcompiler.quant import PerAxis, QSpec, QuantPlan, Site, SitePlan
from qcompiler.quant.qtype import INT8, UINT8
from tests.graphs import parse

LIMIT = 128
SPEC, X = QSpec(INT8, PerAxis(0), symmetric=True), QSpec(UINT8)


def kept(w: npt.NDArray[np.float32], group: int = 1) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.int8], int]:
    """Codes that rounding chose behind `avoid-saturation`, what `keep-pairs` leaves of them, and its changes."""
    text = "g (float[1, C, 8, 8] x) => (float[1, M, n, m] y) { y = Conv <group = GROUP> (x, w) }"
    model = parse(text.replace("C", str(w.shape[1] * group), 1).replace("GROUP", str(group)), {"w": w})
    node = model.nodes[0]
    weight, read = Site("w", node.name, 1), Site("x", node.name, 0)
    first = SitePlan((SPEC,), SPEC, "r", "weight", encoding=encode_constant(w, SPEC))
    pipeline = Pipeline()
    plan = pipeline.plan(model, QuantPlan({read: SitePlan((X,), X, "r"), weight: first}), [AvoidSaturation()])
    encoding = plan.sites[weight].encoding
    assert encoding is not None
    chosen = encoding.__class__(
        encoding.spec, encoding.scale, encoding.zero_point, encoding.method, kernel_codes(w, encoding)
    )
    done = pipeline.plan(model, plan.with_sites({weight: SitePlan((SPEC,), SPEC, "r", encoding=chosen)}), [KeepPairs()])
    after = done.sites[weight].encoding
    assert after is not None and after.codes is not None and chosen.codes is not None
    if group == 1:
        assert largest_sum(after.codes, node, w) <= LIMIT
    for channel in range(w.shape[0]):
        same = np.array_equal(after.codes[channel], chosen.codes[channel])
        assert same or np.array_equal(after.codes[channel], nearest(w, encoding)[channel])
    return chosen.codes, after.codes, pipeline.trace.records[-1].changes


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.sampled_from([(4, 3, 3, 3), (3, 2, 1, 5), (2, 8, 2, 2)]))
def test_no_pair_is_over_the_bound(seed: int, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(seed)
    kept((rng.normal(size=shape) * (1 + 5 * (rng.random(shape) < 0.2))).astype(np.float32))


def test_only_channels_over_the_bound_go_back() -> None:
    w = np.full((2, 1, 1, 4), 0.4, np.float32)
    w[0, 0, 0] = [127, 1.45, 0.4, 0.4]  # 127 + 1 fits, rounding moves the 1 to 2
    w[1, 0, 0] = [127, -50.4, 20.4, 0.4]
    chosen, after, changes = kept(w)
    assert chosen[0].ravel().tolist() == [127, 2, 0, 0] and after[0].ravel().tolist() == [127, 1, 0, 0]
    assert changes == 1
    np.testing.assert_array_equal(after[1], chosen[1])


def test_depthwise_layers_need_nothing() -> None:
    w = np.float32([[[[127, 126.4, 126.4, 0.4]]]] * 2)
    chosen, after, changes = kept(w, group=2)
    np.testing.assert_array_equal(after, chosen)
    assert changes == 0
