"""The plan: for every place in the graph, how its value is stored, and why.

A plan is persistent: every change gives a new plan that shares what did not change. Nothing in it refers to graph
objects; places are names, so a plan can be written, read, compared and applied to a fresh load of the same graph.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

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
        return f"{self.tensor}@{self.consumer}:{self.port}" if self.consumer else self.tensor

    @staticmethod
    def parse(text: str) -> Site:
        """Inverse of `str`, for plan files."""
        tensor, at, use = text.rpartition("@")
        consumer, colon, port = use.rpartition(":")
        if at and colon and port.isdigit():
            return Site(tensor, consumer, int(port))
        return Site(text)


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


Precision = Literal["int8", "w8", "float"]


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
        return self._chain(site)[-1]

    def _chain(self, site: Site) -> list[Site]:
        chain = [site]
        while (twin := self.sites[chain[-1]].same_as) is not None and twin in self.sites and twin not in chain:
            chain.append(twin)
        return chain

    def follow(self, site: Site, encoding: Encoding) -> Encoding:
        """The encoding of `site` where its root has `encoding`."""
        gain = math.prod(self.sites[link].gain for link in self._chain(site)[:-1])
        return encoding if gain == 1.0 else replace(encoding, scale=np.asarray(encoding.scale * gain, np.float32))

    def groups(self) -> dict[Site, list[Site]]:
        """The sites that share an encoding, by their root, in plan order; the root is the first of its list."""
        found: dict[Site, list[Site]] = {}
        for site in self.sites:
            found.setdefault(root := self.root(site), [root])
            if site != root:
                found[root].append(site)
        return found
