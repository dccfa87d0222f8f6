"""Encodings that a model came with take the place of calibration, where the target can use them.

activation    per tensor; int8 as uint8 with code + 128; of other numbers of bits the range, where nothing else is known
weight        per tensor, or per output channel
shared site   the encoding of one is that of all: the first one that is given goes to the root of the group;
              a site that was given another encoding leaves the group
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from qcompiler import ir
from qcompiler.errors import DataError
from qcompiler.numerics.affine import choose_qparams
from qcompiler.numerics.float_grid import choose_scale
from qcompiler.numerics.scale_forms import rounded_scale
from qcompiler.quant import Encoding, PerAxis, QSpec, QuantPlan, Site, SitePlan
from qcompiler.quant.qtype import INT8


@dataclass(eq=False)
class Given:
    """Encodings by place, found for places that are not listed word for word.

    Attributes:
        encodings: by tensor, or by use of a tensor.
    """

    encodings: Mapping[Site, Encoding] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._at_uses: dict[str, Encoding] = {}
        for site, encoding in self.encodings.items():
            if site.consumer:
                self._at_uses.setdefault(site.tensor, encoding)

    def at(self, site: Site) -> Encoding | None:
        """The encoding of a place: its own; that of the tensor for a use; that of the first use for a tensor."""
        found = self.encodings.get(site)
        if found is None:
            found = self.encodings.get(Site(site.tensor)) if site.consumer else self._at_uses.get(site.tensor)
        return found


def with_given(
    sites: Mapping[Site, SitePlan],
    given: Given,
    constants: Mapping[str, ir.Constant],
    *,
    zero_points: bool = True,
    only_given: bool = False,
) -> Mapping[Site, SitePlan]:
    """The sites with the encodings that the model came with; of a target without zero points see `centred`.

    With `only_given` there are no other ranges: that of a grid of another number of bits serves, too.
    """
    if not given.encodings:
        return sites
    plan, done = QuantPlan(sites), dict(sites)
    for site, decision in sites.items():
        encoding = usable(given.at(site), decision, constants.get(site.tensor), only_given=only_given)
        if encoding is not None and not zero_points:
            encoding = centred(encoding, constant=site.tensor in constants)
        if encoding is None:
            continue
        source = "as trained" if encoding.method == "given" else f"known from {encoding.method}"
        trained = replace(decision, encoding=encoding, same_as=None, gain=1.0, why=f"{decision.why}, {source}")
        root = plan.root(site)
        if root == site:
            done[site] = done[site] if done[site].encoding is not None else trained
        elif plan.gain(site) != 1.0:
            done[site] = trained
        elif done[root].encoding is None and sites[root].derived is None:
            done[root] = replace(done[root], encoding=encoding, why=f"{done[root].why}, {source}")
        elif not same_grid(done[root].encoding, encoding):
            done[site] = trained
    return done


def usable(
    encoding: Encoding | None, decision: SitePlan, constant: ir.Constant | None, *, only_given: bool = False
) -> Encoding | None:
    """The encoding in the type that the target chose; None where it has none, or cannot store it so."""
    spec = decision.choice
    if encoding is None or spec is None or spec.dynamic or decision.derived is not None:
        return None
    if encoding.spec.qtype.kind == "int" and spec.qtype.kind == "float" and constant is None:
        return as_float(encoding, spec)
    if encoding.spec.qtype.kind != spec.qtype.kind:
        return None
    if encoding.spec.qtype.bits != spec.qtype.bits:
        return with_levels(encoding, spec) if only_given and constant is None and not encoding.scale.ndim else None
    if encoding.scale.ndim:
        axis = spec.granularity.axis if isinstance(spec.granularity, PerAxis) else None
        granularity = encoding.spec.granularity
        if constant is None or not isinstance(granularity, PerAxis) or granularity.axis != axis:
            return None
        if encoding.scale.shape != (constant.shape[axis],):
            return None
    same = as_type_of(encoding, spec)
    if spec.symmetric and spec.qtype.bits > 8 and same.zero_point.any():
        return with_levels(encoding, spec) if constant is None else None
    return same


def centred(encoding: Encoding, *, constant: bool) -> Encoding | None:
    """The encoding for a target whose zero points are 0: of an activation the same range, symmetric.

    A constant is stored anew, from its values.
    """
    if not encoding.zero_point.any():
        return replace(encoding, spec=replace(encoding.spec, symmetric=True))
    if constant:
        return None
    spec = replace(encoding.spec, symmetric=True)
    scale = np.asarray(largest(encoding) / spec.high, np.float32)
    return replace(encoding, spec=spec, scale=scale, zero_point=np.zeros((), np.int32))


def same_grid(one: Encoding | None, other: Encoding) -> bool:
    """Whether two encodings have the same codes for the same values."""
    return (
        one is not None
        and one.spec.qtype == other.spec.qtype
        and np.array_equal(one.scale, other.scale)
        and np.array_equal(one.zero_point, other.zero_point)
    )


def largest(encoding: Encoding) -> float:
    """The largest |x| of a grid; of a symmetric one its upper end, as the lower one has a code more."""
    low, high = encoding.range
    return max(-low, high) if encoding.zero_point.any() else high


def with_levels(encoding: Encoding, spec: QSpec) -> Encoding:
    """The range of an activation's grid, in the codes of `spec`."""
    scale, zero = choose_qparams(*encoding.range, qmin=spec.low, qmax=spec.high, symmetric=spec.symmetric)
    return replace(encoding, spec=spec, scale=scale, zero_point=zero)


def as_float(encoding: Encoding, spec: QSpec) -> Encoding | None:
    """The range of an activation's integer grid on a grid of floats."""
    if encoding.scale.ndim:
        return None
    scale = rounded_scale(choose_scale(largest(encoding), high=spec.qtype.high), spec.scale)
    return replace(encoding, spec=spec, scale=scale, zero_point=np.zeros((), np.int32))


def from_ranges(model: ir.Model, ranges: Mapping[str, float]) -> dict[Site, Encoding]:
    """Encodings of the tensors of a model for which max |x| is known from a calibration elsewhere.

    Raises:
        DataError: there is none.
    """
    present = [t.name for t in [*model.inputs, *(t for node in model.nodes for t in node.outputs)] if t.name in ranges]
    if not present:
        names = ", ".join(map(repr, list(ranges)[:3]))
        raise DataError(f"the ranges are of other tensors ({names})", hint="names are those of the ONNX model")
    spec = QSpec(INT8, symmetric=True)
    found: dict[Site, Encoding] = {}
    for name in present:
        scale, zero_point = choose_qparams(-ranges[name], ranges[name], qmin=spec.low, qmax=spec.high, symmetric=True)
        found[Site(name)] = Encoding(spec, scale, zero_point, "calibration cache")
    return found


def as_type_of(encoding: Encoding, spec: QSpec) -> Encoding:
    """The same grid with codes of the type of `spec`: int8 and uint8 differ by 128 in code and zero point."""
    shift = int(spec.qtype.low - encoding.spec.qtype.low)
    zero_point = np.asarray(encoding.zero_point + shift, np.int32)
    symmetric = spec.symmetric and not zero_point.any()
    return replace(
        encoding,
        spec=replace(spec, granularity=encoding.spec.granularity, symmetric=symmetric, narrow=False),
        zero_point=zero_point,
    )


def renamed(given: Mapping[Site, Encoding], aliases: Mapping[str, str]) -> dict[Site, Encoding]:
    """The given encodings of tensors that have other names now, for all uses of those."""
    named = {site.tensor: encoding for site, encoding in reversed(list(given.items()))}
    return {Site(new): named[old] for new, old in aliases.items() if old in named}
