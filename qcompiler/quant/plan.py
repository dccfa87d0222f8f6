"""The plan: for every place in the graph, how its value is stored, and why.

A plan is persistent: every change gives a new plan that shares what did not change. Nothing in it refers to graph
objects; places are names, so a plan can be written, read, compared and applied to a fresh load of the same graph.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

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
        encoding: the numbers, once calibrated.
        derived: set where the encoding follows from other sites.
        rule: name of the target rule that put it here.
        why: one sentence for a person.
    """

    options: tuple[QSpec, ...]
    choice: QSpec | None
    rule: str
    why: str = ""
    derived: BiasOf | None = None
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
        groups: sites that must share one encoding.
    """

    sites: Mapping[Site, SitePlan] = field(default_factory=dict)
    nodes: Mapping[str, NodePlan] = field(default_factory=dict)
    groups: tuple[tuple[Site, ...], ...] = ()

    def with_site(self, site: Site, plan: SitePlan) -> QuantPlan:
        """This plan with another decision for one site."""
        return replace(self, sites={**self.sites, site: plan})

    def with_sites(self, changes: Mapping[Site, SitePlan]) -> QuantPlan:
        """This plan with other decisions for some sites."""
        return replace(self, sites={**self.sites, **changes})

    def with_choice(self, site: Site, choice: QSpec | None) -> QuantPlan:
        """This plan with another choice for one site; its encoding is dropped, since it fits the old choice."""
        return self.with_site(site, replace(self.sites[site], choice=choice, encoding=None))

    def quantized(self) -> Iterator[tuple[Site, SitePlan]]:
        """The sites that are not float, in plan order."""
        return ((site, plan) for site, plan in self.sites.items() if plan.choice is not None)

    def group_of(self, site: Site) -> tuple[Site, ...]:
        """The sites that share an encoding with `site`, itself included."""
        return next((group for group in self.groups if site in group), (site,))


def merge_groups(pairs: Iterable[tuple[Site, Site]]) -> tuple[tuple[Site, ...], ...]:
    """Connected components of "shares an encoding with", each sorted, in sorted order."""
    import networkx as nx

    graph = nx.Graph()
    graph.add_edges_from(pairs)
    return tuple(sorted(tuple(sorted(component)) for component in nx.connected_components(graph)))
