"""Sensitivity of all groups by parts of runs, beside as many whole evaluations.

    python -m benchmarks.sensitivity [NAME] [--samples 64] [--every 6]

A whole evaluation makes the candidate with one group quantized, opens its session, and runs it on all samples, beside
the float model (as `evaluate` does) or alone. Only every sixth group is evaluated so, spread over the network, and the
time is multiplied; parts of runs are measured for all groups. Both in one process, taking turns.
"""

from __future__ import annotations

import argparse
import time

from benchmarks import zoo_data
from qcompiler.analysis import Runner, SessionConfig, collect, evaluate
from qcompiler.analysis.measures import Fidelity
from qcompiler.backends import get
from qcompiler.data import Sample
from qcompiler.frontend import front
from qcompiler.passes.lower.materialise import Materialise
from qcompiler.passes.plan.restrict import restricted
from qcompiler.passes.prepare.eliminate_dead import EliminateDead
from qcompiler.pipeline import Pipeline
from qcompiler.search.candidates import Candidate, Drafter
from qcompiler.search.groups import Group, groups_of
from qcompiler.search.means import Means
from qcompiler.search.sweep import Asking, sweep


def whole(made: Candidate, group: Group, samples: list[Sample], reference: Runner | None) -> float:
    """Seconds of one whole evaluation, with or without the float model beside it."""
    start = time.perf_counter()
    model = made.planned.copy()
    Pipeline().graph(model, [Materialise(restricted(model, made.plan, set(group.planned))), EliminateDead()])
    runner = Runner(model, SessionConfig())
    if reference is not None:
        evaluate(reference, {"it": runner}, samples, measure=Fidelity())
    else:
        for sample in samples:
            runner.run(sample.feed)
    return time.perf_counter() - start


def main() -> None:
    """Prints the two times and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?", default="mobilenetv3_small")
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--every", type=int, default=6)
    arguments = parser.parse_args()
    entry = zoo_data.load().MODELS[arguments.name]
    feeds = zoo_data.feeds(entry, arguments.samples)
    samples = [Sample(feed, None, str(number)) for number, feed in enumerate(feeds)]
    frontend = front(entry.path)
    drafter = Drafter(frontend.prepared, get("onnxruntime"))
    draft = drafter.draft("int8")
    made = drafter.candidate(draft, collect(frontend.prepared, samples, drafter.statistics(draft)), "auto", {})
    groups = groups_of(frontend.prepared, made)
    chosen = [group for group in groups if not group.moves][:: arguments.every]
    reference = Runner(made.planned, SessionConfig())
    beside = [whole(made, group, samples, reference) for group in chosen[::2]]
    alone = [whole(made, group, samples, None) for group in chosen[::2]]
    start = time.perf_counter()
    asking = Asking(SessionConfig(), 512 << 20, get("onnxruntime").simulate)
    sweep(Means(), {"int8": (made, groups)}, samples, asking, lambda *_: None)
    parts = time.perf_counter() - start
    beside += [whole(made, group, samples, reference) for group in chosen[1::2]]
    alone += [whole(made, group, samples, None) for group in chosen[1::2]]
    count = sum(not group.moves for group in groups)
    print(f"{arguments.name}: {count} groups that compute, {len(samples)} samples")
    print(f"parts of runs, all groups          {parts:8.1f} s")
    for label, times in (("whole evaluations beside float", beside), ("whole runs alone", alone)):
        total = sum(times) / len(times) * count
        print(f"{label:34} {total:8.1f} s ({len(times)} measured, times {count}): ratio {parts / total:.2f}")


if __name__ == "__main__":
    main()
