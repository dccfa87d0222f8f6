"""patches: weights times patches are the results of ONNX Runtime's Conv."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler.numerics.patches import Window, patches, spread
from tests.graphs import parse, run

RNG = np.random.default_rng(5)


@pytest.mark.parametrize(
    ("shape", "weight", "window"),
    [
        ((2, 4, 9, 7), (6, 4, 3, 3), Window((3, 3), (1, 1), (1, 1), (1, 1, 1, 1))),
        ((1, 4, 9, 7), (8, 2, 3, 2), Window((3, 2), (2, 1), (1, 2), (0, 1, 2, 1), 2)),
        ((1, 5, 8, 8), (5, 1, 5, 5), Window((5, 5), (2, 2), (1, 1), (2, 2, 2, 2), 5)),
        ((3, 4, 20), (6, 4, 3), Window((3,), (2,), (1,), (1, 0), 1)),
    ],
)
def test_products_are_those_of_conv(shape: tuple[int, ...], weight: tuple[int, ...], window: Window) -> None:
    x, w = RNG.normal(size=shape).astype(np.float32), RNG.normal(size=weight).astype(np.float32)
    dims, rank = ", ".join(map(str, shape)), len(shape)
    attrs = ", ".join(
        f"{name} = [{', '.join(map(str, values))}]"
        for name, values in (("strides", window.strides), ("dilations", window.dilations), ("pads", window.pads))
    )
    out = ", ".join("abcde"[:rank])
    model = parse(
        f"g (float[{dims}] x) => (float[{out}] y) {{ y = Conv <group = {window.groups}, {attrs}> (x, w) }}", {"w": w}
    )
    wanted = np.moveaxis(run(model, {"x": x})[0], 1, -1).reshape(-1, weight[0])
    found = patches(x, window, 10**6)
    rows = w.reshape(window.groups, -1, found.shape[2])
    got = np.einsum("gok,gpk->pgo", rows, found).reshape(wanted.shape)
    assert np.allclose(got, wanted, atol=1e-4)
    fewer = patches(x, window, 10)
    assert fewer.shape[1] <= 10 and (fewer[:, :, None] == found[:, None]).all(-1).any(-1).all()


def test_matrices_are_their_rows() -> None:
    x = RNG.normal(size=(2, 3, 4))
    assert np.array_equal(patches(x, Window(), 100), x.reshape(1, 6, 4))


@pytest.mark.parametrize(("size", "most"), [(1, 4), (5, 10), (100, 7), (4096, 256), (12544, 256), (7, 1)])
def test_places_are_spread_over_everything(size: int, most: int) -> None:
    places = spread(size, most)
    assert 1 <= places.size <= most and places[0] == 0 and places[-1] < size
    assert size - places[-1] <= max(2 * size // most, 2) * 2
