"""Which parts of a model quantization harms, and what each costs and saves: `qcompile sensitivity`."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING

from qcompiler.compiler import Progress, silent
from qcompiler.opening import check_precision
from qcompiler.recipe import Recipe

if TYPE_CHECKING:
    from qcompiler.data import Data
    from qcompiler.search.ranking import Ranking


def sensitivity(
    model: str | Path,
    target: str,
    data: Data,
    *,
    recipe: Recipe | None = None,
    stats: str | Path | None = None,
    use: int = 64,
    by: str = "sqnr",
    without: bool = False,
    progress: Progress | None = None,
) -> Ranking:
    """Measures what quantizing each group of nodes alone does to the outputs, and what it costs and saves.

    Args:
        model, target, data, recipe, stats, progress: as for `compile`; `auto` is the target's first precision.
        use: how many samples to measure on.
        by: what to rank by: `sqnr`, `kl` or `metric`.
        without: measure also what is left when a group alone is float.

    Raises:
        UserError: input or request cannot be served.
    """
    from qcompiler import backends
    from qcompiler.analysis import SessionConfig, Stats, fingerprint
    from qcompiler.analysis.same_function import SameFunction
    from qcompiler.opening import opened
    from qcompiler.search.attempts import Attempts
    from qcompiler.search.candidates import Drafter
    from qcompiler.search.costs import measured
    from qcompiler.search.evaluations import Evaluations
    from qcompiler.search.groups import groups_of
    from qcompiler.search.means import open_means
    from qcompiler.search.ranking import Ranking, check_measure, ranked
    from qcompiler.search.sweep import Asking, sweep

    recipe, tell = recipe or Recipe(), progress or silent
    backend = backends.get(target)
    check_precision(backend, recipe, known=True)
    check_measure(by)
    tell("prepare", 0, None)
    start = opened(Path(model), backend, recipe, data)
    frontend, source = start.frontend, start.samples
    frontend = frontend.checked(same := SameFunction(dict(next(iter(source)).feed)))
    known = None if stats is None else Stats.load(Path(stats))
    if known is not None:
        known.check(fingerprint(frontend.prepared))
    drafter = Drafter(
        frontend.prepared, backend, recipe.keep_float, frontend.given, algorithms=recipe.chosen, same=same
    )
    config = SessionConfig(threads=recipe.threads, entries=backend.host.entries)
    (precision, *_) = backend.wished(recipe.precision, frontend.prepared, data=True)
    with open_means(recipe.workers, recipe.cluster, recipe.journal) as means:
        if means.folder is not None:
            means.about(fingerprint(frontend.original))
        evaluations = Evaluations(frontend.original, source, config=config, crew=means.crew, journal=means.journal)
        attempts = Attempts(
            drafter, source, known, recipe.method, recipe.methods, recipe.memory_mib << 20, (), config, means,
            evaluations, tell,
        )  # fmt: skip
        base, costs = attempts.numbered(drafter, drafter.draft(precision)), None
        if recipe.bench_seconds > 0 and backend.host.indicative:
            tell("profile", 0, None)
            feed = dict(next(iter(source)).feed)
            costs = measured(frontend.prepared, base, feed, backend.origin, config, means.cache)
        groups = costs.groups if costs is not None else groups_of(frontend.prepared, base)
        asking = Asking(config, recipe.memory_mib << 20, backend.simulate, without, by == "metric", recipe.metric)
        found = sweep(
            means, {base.precision: (base, groups)}, list(itertools.islice(source, use)), asking,
            lambda done, total: tell("sensitivity", done, total),
        )[base.precision]  # fmt: skip
    samples = use if source.count is None else min(use, source.count)
    return Ranking(
        frontend.path.name, backend.spec.name, backend.variant, base.precision, samples, by,
        "" if costs is None else costs.source, ranked(found, costs, by),
    )  # fmt: skip
