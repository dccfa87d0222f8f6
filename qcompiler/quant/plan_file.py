"""plan.json: the plan as text, and back. Schema 1; floats are written so that they are read back exactly."""

from __future__ import annotations

import json
import math
import zlib
from base64 import b64decode, b64encode
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from qcompiler.errors import DataError
from qcompiler.quant.plan import BiasOf, NodePlan, QuantPlan, Site, SitePlan
from qcompiler.quant.qtype import QTYPES
from qcompiler.quant.spec import Encoding, Granularity, PerAxis, PerBlock, PerGroup, PerTensor, QSpec, ScaleKind

SCHEMA = 1


def plan_to_json(plan: QuantPlan) -> str:
    """The text of plan.json. Codes of optimised rounding are not part of it; they are in the model, and so are
    scales that were chosen with them for blocks, of which there may be millions."""
    sites = {str(site): site_to_dict(decision) for site, decision in plan.sites.items()}
    nodes = {name: {"precision": n.precision, "rule": n.rule, "reason": n.reason} for name, n in plan.nodes.items()}
    return json.dumps({"schema": SCHEMA, "sites": sites, "nodes": nodes}, indent=1, ensure_ascii=False) + "\n"


def plan_from_json(text: str) -> QuantPlan:
    """Inverse of `plan_to_json`.

    Raises:
        DataError: not a plan of this schema.
    """
    try:
        data = json.loads(text)
        if data["schema"] != SCHEMA:
            raise DataError(f"plan has schema {data['schema']}, this version reads {SCHEMA}")
        sites = {Site.parse(name): site_from_dict(entry) for name, entry in data["sites"].items()}
        nodes = {name: NodePlan(str(n["precision"]), n["rule"], n["reason"]) for name, n in data["nodes"].items()}
    except (KeyError, TypeError, ValueError, AttributeError, zlib.error) as error:
        raise DataError(f"not a plan: {error}") from error
    return QuantPlan(sites, nodes)


def site_to_dict(decision: SitePlan) -> dict[str, Any]:
    """One site; what is at its default is left out."""
    found: dict[str, Any] = {
        "options": [spec_to_dict(spec) for spec in decision.options],
        "choice": None if decision.choice is None else spec_to_dict(decision.choice),
        "rule": decision.rule,
        "why": decision.why,
    }
    if decision.derived is not None:
        found["derived"] = {"x": str(decision.derived.x), "w": str(decision.derived.w)}
    if decision.same_as is not None:
        found["same_as"] = str(decision.same_as)
    if decision.gain != 1.0:
        found["gain"] = decision.gain
    if decision.encoding is not None and not chosen_in_blocks(decision.encoding):
        encoding = decision.encoding
        found["encoding"] = {
            "spec": spec_to_dict(encoding.spec),
            "scale": array_to_json(encoding.scale),
            "zero_point": array_to_json(encoding.zero_point),
            "method": encoding.method,
        }
    return found


def chosen_in_blocks(encoding: Encoding) -> bool:
    """Whether the numbers mean little without the codes, and are too many for a text."""
    return encoding.codes is not None and isinstance(encoding.spec.granularity, PerBlock)


def site_from_dict(entry: dict[str, Any]) -> SitePlan:
    """Inverse of `site_to_dict`."""
    derived, encoding = entry.get("derived"), entry.get("encoding")
    return SitePlan(
        tuple(spec_from_dict(spec) for spec in entry["options"]),
        None if entry["choice"] is None else spec_from_dict(entry["choice"]),
        entry["rule"],
        entry["why"],
        None if derived is None else BiasOf(Site.parse(derived["x"]), Site.parse(derived["w"])),
        Site.parse(entry["same_as"]) if "same_as" in entry else None,
        float(entry.get("gain", 1.0)),
        None
        if encoding is None
        else Encoding(
            spec_from_dict(encoding["spec"]),
            array_from_json(encoding["scale"], np.dtype("<f4")),
            array_from_json(encoding["zero_point"], np.dtype("<i4")),
            encoding["method"],
        ),
    )


def array_to_json(values: npt.NDArray[Any]) -> Any:
    """Numbers as a list; those of blocks, which are many, as their bytes in base64 beside the shape."""
    if values.ndim < 2:
        return values.tolist()
    little = values.astype(values.dtype.newbyteorder("<"), order="C")
    return {"shape": list(values.shape), "base64": b64encode(zlib.compress(little.tobytes())).decode("ascii")}


def array_from_json(entry: Any, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Inverse of `array_to_json`; `dtype` is little-endian."""
    native = dtype.newbyteorder("=")
    if not isinstance(entry, dict):
        return np.asarray(entry, native)
    size = math.prod(entry["shape"]) * dtype.itemsize
    raw = zlib.decompressobj().decompress(b64decode(entry["base64"], validate=True), size + 1)
    return np.frombuffer(raw, dtype).reshape(entry["shape"]).astype(native)


def spec_to_dict(spec: QSpec) -> dict[str, Any]:
    """One spec; what is at its default is left out."""
    found: dict[str, Any] = {"type": spec.qtype.name}
    match spec.granularity:
        case PerAxis(axis):
            found["axis"] = axis
        case PerBlock(axis, size):
            found |= {"axis": axis, "block": size}
        case PerGroup(axis, size):
            found |= {"axis": axis, "group": size}
    flags = {"symmetric": spec.symmetric, "narrow": spec.narrow, "dynamic": spec.dynamic}
    found |= {name: True for name, value in flags.items() if value}
    return found if spec.scale == "f32" else {**found, "scale": spec.scale}


def spec_from_dict(entry: dict[str, Any]) -> QSpec:
    """Inverse of `spec_to_dict`."""
    granularity: Granularity = PerTensor()
    if "block" in entry:
        granularity = PerBlock(int(entry["axis"]), int(entry["block"]))
    elif "group" in entry:
        granularity = PerGroup(int(entry["axis"]), int(entry["group"]))
    elif "axis" in entry:
        granularity = PerAxis(int(entry["axis"]))
    flags = {name: bool(entry.get(name, False)) for name in ("symmetric", "narrow", "dynamic")}
    return QSpec(QTYPES[entry["type"]], granularity, scale=cast(ScaleKind, entry.get("scale", "f32")), **flags)
