"""Encodings in AIMET's form."""

import json

import numpy as np

from qcompiler.backends.qnn.encodings import to_aimet
from tests.backends.qnn.helper import attention, quantized


def test_every_stored_value_once_and_biases_left_out() -> None:
    candidate = quantized(attention(), "w8a16")
    data = json.loads(to_aimet(candidate.planned, candidate.plan))
    values = {entry["name"]: entry for entry in data["activation_encodings"]}
    weights = {entry["name"]: entry for entry in data["param_encodings"]}
    assert data["version"] == "1.0.0" and set(weights) == {"wq", "wk", "wv", "wo", "g"} and "h" not in values
    assert weights["wq"]["enc_type"] == "PER_CHANNEL" and weights["wq"]["offset"] == [-128] * 16
    assert weights["wq"]["is_sym"] and weights["wq"]["bw"] == 8 and len(weights["wq"]["scale"]) == 16
    assert values["t"]["bw"] == 16 and not values["t"]["is_sym"]


def test_the_formula_gives_the_values_back() -> None:
    candidate = quantized(attention(), "w8a8")
    data = json.loads(to_aimet(candidate.planned, candidate.plan))
    entry = next(entry for entry in data["activation_encodings"] if entry["name"] == "q")
    encoding = next(d.encoding for s, d in candidate.plan.quantized() if s.tensor == "q")
    assert encoding is not None
    low = (0 + entry["offset"][0]) * entry["scale"][0]
    high = (255 + entry["offset"][0]) * entry["scale"][0]
    np.testing.assert_allclose([low, high], encoding.range, rtol=1e-6)
