"""The plan: for every place in the graph, how its value is stored, and why.

A plan is persistent: every change gives a new plan that shares what did not change. Nothing in it refers to graph
objects; places are names, so a plan can be written, read, compared and applied to a fresh load of the same graph.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from qcompiler.quant.spec import Encoding, QSpec


@dataclass(frozen=True, slots=True, order=True)
class Site:
    """A place that stores a value: a tensor, or one use of it.

    Attributes:
        tensor: name of the tensor.
        consumer: name of the node that uses it; empty for the tensor itself (all uses).
        port: input index at the consumer; -1 for the tensor itself.
    """

    tensor: str
    consumer: str = ""
    port: int = -1

    def __str__(self) -> str:
        """`tensor`, or `tensor@consumer:port`; an "@" within a name is written "%40", and "%" then "%25"."""
        return f"{_quote(self.tensor)}@{_quote(self.consumer)}:{self.port}" if self.consumer else _quote(self.tensor)

    @staticmethod
    def parse(text: str) -> Site:
        """Inverse of `str`, for plan files."""
        tensor, at, use = text.partition("@")
        consumer, colon, port = use.rpartition(":")
        if at and colon and port.isdecimal():
            return Site(_unquote(tensor), _unquote(consumer), int(port))
        return Site(_unquote(text))


def _quote(name: str) -> str:
    return name.replace("%", "%25").replace("@", "%40") if "@" in name or "%" in name else name


def _unquote(text: str) -> str:
    return text.replace("%40", "@").replace("%25", "%")


@dataclass(frozen=True, slots=True)
class BiasOf:
    """The encoding follows from two others: scale = scale(x) * scale(w), zero point 0, int32."""

    x: Site
    w: Site


@dataclass(frozen=True, slots=True)
class SitePlan:
    """The decision for one site.

    Attributes:
        options: what the target would accept, best first.
        choice: the accepted one; None keeps the value in float.
        rule: name of the target rule that put it here.
        why: one sentence for a person.
        derived: set where the encoding follows from other sites.
        same_as: another site whose encoding this one shares.
        gain: the value is that of `same_as` times this factor: same codes, scale multiplied.
        encoding: the numbers, once calibrated.
    """

    options: tuple[QSpec, ...]
    choice: QSpec | None
    rule: str
    why: str = ""
    derived: BiasOf | None = None
    same_as: Site | None = None
    gain: float = 1.0
    encoding: Encoding | None = None


Precision = str
"""A name out of a target's table, or `float`. `mixed` is of a whole model: each of its nodes is one of the others."""


@dataclass(frozen=True, slots=True)
class NodePlan:
    """How a node is computed, by which rule of the target, and why (one sentence for a person)."""

    precision: Precision
    rule: str
    reason: str


@dataclass(frozen=True)
class QuantPlan:
    """All decisions for one model and one target.

    Attributes:
        sites: decision for each place.
        nodes: how each node is computed, by node name.
    """

    sites: Mapping[Site, SitePlan] = field(default_factory=dict)
    nodes: Mapping[str, NodePlan] = field(default_factory=dict)

    def with_sites(self, changes: Mapping[Site, SitePlan]) -> QuantPlan:
        """This plan with other decisions for some sites."""
        return replace(self, sites={**self.sites, **changes})

    def with_choice(self, site: Site, choice: QSpec | None) -> QuantPlan:
        """This plan with another choice for one site; its encoding is dropped, since it fits the old choice."""
        return self.with_sites({site: replace(self.sites[site], choice=choice, encoding=None)})

    def quantized(self) -> Iterator[tuple[Site, SitePlan]]:
        """The sites that are not float, in plan order."""
        return ((site, plan) for site, plan in self.sites.items() if plan.choice is not None)

    def root(self, site: Site) -> Site:
        """The site whose encoding `site` has in the end."""
        return self._ends[site][0]

    def gain(self, site: Site) -> float:
        """The value at `site` is that of its root times this factor."""
        return self._ends[site][1]

    @cached_property
    def _ends(self) -> Mapping[Site, tuple[Site, float]]:
        """Root and gain of every site; chains of `same_as` are followed once."""
        found: dict[Site, tuple[Site, float]] = {}
        for site in self.sites:
            chain: dict[Site, None] = {}
            here = site
            while here not in found:
                twin = self.sites[here].same_as
                if twin is None or twin not in self.sites or twin in chain:
                    found[here] = (here, 1.0)
                else:
                    chain[here] = None
                    here = twin
            end, gain = found[here]
            for link in reversed(chain):
                gain *= self.sites[link].gain
                found[link] = (end, gain)
        return found

    def follow(self, site: Site, encoding: Encoding) -> Encoding:
        """The encoding of `site` where its root has `encoding`."""
        gain = self.gain(site)
        return encoding if gain == 1.0 else replace(encoding, scale=np.asarray(encoding.scale * gain, np.float32))

    def groups(self) -> dict[Site, list[Site]]:
        """The sites that share an encoding, by their root, in plan order; the root is the first of its list."""
        found: dict[Site, list[Site]] = {}
        for site in self.sites:
            found.setdefault(root := self.root(site), [root])
            if site != root:
                found[root].append(site)
        return found
