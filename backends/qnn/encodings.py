"""The plan's encodings as AIMET writes them (version 1.0.0), for `qairt-converter --quantization_overrides`.

    x = (code + offset) * scale,  code in 0 .. 2^bits - 1

so offset = -zero point on the unsigned grid: a signed grid is shifted by half of its codes, and its zero is at
-2^(bits - 1). Biases are left out: the converter derives them. A value with several encodings (one for each kind of
reader) has that of its producer, else of its first reader.
Source: AIMET documentation, Encoding Format Specification 1.0.0.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from qcompiler import ir
from qcompiler.quant import Encoding, PerAxis, PerBlock, QuantPlan

VERSION = "1.0.0"


def to_aimet(model: ir.Model, plan: QuantPlan) -> str:
    """The text of the file, for the graph that the plan speaks of."""
    constants = {constant.name for constant in model.constants()}
    activations: dict[str, Any] = {}
    parameters: dict[str, Any] = {}
    ranked = sorted(plan.quantized(), key=lambda item: bool(item[0].consumer))
    for site, decision in ranked:
        encoding = decision.encoding
        if encoding is None or decision.derived is not None:
            continue
        group = parameters if site.tensor in constants else activations
        group.setdefault(site.tensor, entry(site.tensor, encoding))
    data = {
        "version": VERSION,
        "activation_encodings": [activations[name] for name in sorted(activations)],
        "param_encodings": [parameters[name] for name in sorted(parameters)],
        "excluded_layers": sorted(name for name, node in plan.nodes.items() if node.precision == "float"),
    }
    return json.dumps(data, indent=1, ensure_ascii=False) + "\n"


def entry(name: str, encoding: Encoding) -> dict[str, Any]:
    """One encoding."""
    spec = encoding.spec
    bits = spec.qtype.bits
    half = 2 ** (bits - 1) if spec.qtype.signed else 0
    found: dict[str, Any] = {
        "name": name,
        "bw": bits,
        "dtype": "INT",
        "enc_type": "PER_TENSOR",
        "is_sym": spec.symmetric,
        "scale": [float(scale) for scale in np.reshape(encoding.scale, -1)],
        "offset": [-int(zero) - half for zero in np.reshape(encoding.zero_point, -1)],
    }
    match spec.granularity:
        case PerBlock(_, size):
            found |= {"enc_type": "PER_BLOCK", "block_size": size}
        case PerAxis() if encoding.scale.ndim:
            found["enc_type"] = "PER_CHANNEL"
    return found
