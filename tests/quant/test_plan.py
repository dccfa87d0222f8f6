"""QuantPlan: sites, sharing groups, and what follows from them."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from qcompiler.quant import Encoding, QSpec, QuantPlan, Site, SitePlan
from qcompiler.quant.qtype import UINT8

U8 = QSpec(UINT8)
names = st.text(st.sampled_from("ab@:%/0 1é"), max_size=8)
sites = st.builds(Site, names) | st.builds(Site, names, names.filter(bool), st.integers(0, 9))


def encoding(scale: float, zero_point: int = 3) -> Encoding:
    return Encoding(U8, np.asarray(scale, np.float32), np.asarray(zero_point, np.int32), "minmax")


def plan(**links: str | tuple[str, float]) -> QuantPlan:
    """A plan of tensors, each with the tensor that it follows, and the gain: `b=("a", 2.0)`."""
    found = {}
    for name, link in links.items():
        target, gain = link if isinstance(link, tuple) else (link, 1.0)
        found[Site(name)] = SitePlan((U8,), U8, "rule", same_as=Site(target) if target else None, gain=gain)
    return QuantPlan(found)


@given(sites)
def test_a_site_as_text_is_read_back(site: Site) -> None:
    assert Site.parse(str(site)) == site


@given(sites, sites)
def test_two_sites_have_two_texts(one: Site, other: Site) -> None:
    assert (str(one) == str(other)) == (one == other)


def test_text_of_a_site() -> None:
    assert str(Site("x")) == "x"
    assert str(Site("x", "conv:1", 2)) == "x@conv:1:2"
    assert str(Site("x@conv:0")) == "x%40conv:0"
    assert Site.parse("layer::x@n:3") == Site("layer::x", "n", 3)
    assert Site.parse("x@n:-1") == Site("x@n:-1")


def test_root_and_gain_follow_the_whole_chain() -> None:
    found = plan(a="", b=("a", 2.0), c=("b", 3.0), d="c", e="")
    assert [found.root(site).tensor for site in found.sites] == ["a", "a", "a", "a", "e"]
    assert [found.gain(site) for site in found.sites] == [1.0, 2.0, 6.0, 6.0, 1.0]
    followed = found.follow(Site("d"), encoding(0.5))
    assert float(followed.scale) == 3.0
    assert followed.scale.dtype == np.float32
    assert followed.scale.shape == ()
    assert int(followed.zero_point) == 3
    same = encoding(0.5)
    assert found.follow(Site("e"), same) is same


def test_members_may_come_before_their_root() -> None:
    assert plan(c="b", b="a", a="").groups() == {Site("a"): [Site("a"), Site("c"), Site("b")]}


def test_a_ring_has_a_root() -> None:
    found = plan(a="b", b="c", c="a")
    assert len(set(map(found.root, found.sites))) == 1
    assert sorted(site.tensor for site in found.groups()[found.root(Site("a"))]) == ["a", "b", "c"]


def test_a_site_that_follows_nothing_known_is_its_own_root() -> None:
    assert plan(a="elsewhere").root(Site("a")) == Site("a")


@given(st.dictionaries(st.integers(0, 12), st.integers(0, 12)))
def test_groups_are_a_partition(links: dict[int, int]) -> None:
    found = plan(**{f"t{a}": "" if a == b else f"t{b}" for a, b in links.items()})
    groups = found.groups()
    assert sorted(site for members in groups.values() for site in members) == sorted(found.sites)
    assert all(members[0] == root for root, members in groups.items())
    assert all(found.root(site) == root for root, members in groups.items() for site in members)


def test_a_long_chain_takes_linear_time() -> None:
    found = plan(t0="", **{f"t{i}": f"t{i - 1}" for i in range(1, 20000)})
    assert len(found.groups()[Site("t0")]) == 20000
    backward = plan(**{f"t{i}": f"t{i + 1}" for i in range(19999)}, t19999="")
    assert len(backward.groups()) == 1


def test_changes_make_new_plans() -> None:
    before = plan(a="")
    encoded = before.with_sites({Site("a"): SitePlan((U8,), U8, "rule", encoding=encoding(1.0))})
    assert before.sites[Site("a")].encoding is None
    assert encoded.with_choice(Site("a"), None).sites[Site("a")].encoding is None
    assert list(encoded.with_choice(Site("a"), None).quantized()) == []
    assert [site for site, _ in encoded.quantized()] == [Site("a")]
