"""Each accuracy algorithm on and off: the metric, and the lowest SQNR of the outputs, on the zoo's evaluation data.

    python -m benchmarks.algorithms [NAME ...] [--samples 64]

    none            no algorithm: plain rounding, ranges by method auto
    fast            the preset
    fast - X        without X
    fast + X        with X, kept whatever it does
    balanced, best  the presets: what does not gain on calibration data is left out

int8 for onnxruntime, no search, nothing back in float. SQNR is over the first `--samples` evaluation samples, the
metric over all of them. Seconds are those beyond collecting statistics, which `calibrated in` states.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

from benchmarks import zoo_data
from qcompiler import backends, ir
from qcompiler.analysis import Runner, Stats, collect, evaluate
from qcompiler.analysis.same_function import SameFunction
from qcompiler.data import Sample, Source, open_source
from qcompiler.frontend import front
from qcompiler.passes.plan.ada_round import AdaRound, layers_of
from qcompiler.passes.plan.take_codes import TakeCodes
from qcompiler.search.algorithms import PRESETS, Algorithms
from qcompiler.search.candidates import Candidate, Draft, Drafter
from qcompiler.search.improve import Improver
from qcompiler.search.reconstruct import Reconstruction

NAMES = (
    "mobilenetv3_small", "ppocrv3_det", "silero_vad", "resnet20_cifar10", "kws_dscnn", "vit_cifar10", "squeezenet10",
)  # fmt: skip
NONE = Algorithms(equalize_depthwise=False, round_kernels=False, correct_bias=False)
SURE = ("equalize-depthwise", "round-kernels", "correct-bias")
TRIED = ("equalize-layers", "smooth-quant", "clip-weights")


def variants(
    original: ir.Model, drafter: Drafter, draft: Draft, stats: Stats, source: Source, only: str = ""
) -> Iterator[tuple[str, Candidate, float]]:
    """Each variant whose label holds `only`, with the seconds that it took."""
    fast = PRESETS["fast"]
    improver = Improver(original, source)
    drafter = replace(drafter, rows=improver.rows(draft, drafter.backend.spec.channel_mul))

    def plain(algorithms: Algorithms) -> Candidate:
        return replace(drafter, algorithms=algorithms).candidate(draft, stats, "auto", {})

    def rounded() -> Candidate:
        base = plain(fast)
        step = AdaRound(improver.seen(base.planned, layers_of(base.planned, base.plan)))
        return replace(drafter, algorithms=fast).candidate(draft, stats, "auto", {}, (step,))

    def clipped() -> Candidate:
        base, using = plain(fast), replace(drafter, algorithms=fast)
        return using.candidate(draft, stats, "auto", improver.ranges(using, draft, base, stats, {}))

    def reconstructed() -> Candidate:
        base, using = plain(fast), replace(drafter, algorithms=fast)
        codes = TakeCodes(Reconstruction(base.planned, improver.fitting()[0]).plan(base.plan))
        return using.candidate(draft, stats, "auto", {}, (codes,))

    def preset(name: str) -> Candidate:
        using = replace(drafter, algorithms=PRESETS[name])
        return Improver(original, source).improved(using, draft, plain(PRESETS[name].sure), stats, {})

    makers = {
        "none": lambda: plain(NONE),
        "fast": lambda: plain(fast),
        **{f"fast - {name}": lambda name=name: plain(fast.updated({name: False})) for name in SURE},
        **{f"fast + {name}": lambda name=name: plain(fast.updated({name: True})) for name in TRIED},
        "fast + adaround": rounded,
        "fast + clip-activations": clipped,
        "fast + reconstruct": reconstructed,
        "balanced": lambda: preset("balanced"),
        "best": lambda: preset("best"),
    }
    for label, make in makers.items():
        if only not in label:
            continue
        start = time.perf_counter()
        made = make()
        yield label, made, time.perf_counter() - start


def bench(name: str, samples: int, only: str, work: Path) -> None:
    """Prints the table of one model."""
    entry = zoo_data.load().MODELS[name]
    frontend = front(entry.path)
    source = open_source(str(zoo_data.calibration_folder(zoo_data.feeds(entry), work / name)), frontend.inputs)
    first, backend = dict(next(iter(source)).feed), backends.get("onnxruntime")
    drafter = Drafter(frontend.prepared, backend, algorithms=PRESETS["best"], same=SameFunction(first))
    draft = drafter.draft("int8")
    start = time.perf_counter()
    stats = collect(frontend.prepared, source, drafter.statistics(draft))
    print(f"{name} ({entry.metric}, float {entry.float_value:.4f}), calibrated in {time.perf_counter() - start:.1f} s")
    judged = [Sample(feed, None, str(i)) for i, (feed, _) in enumerate(islice(entry.samples(), samples))]
    reference = Runner(frontend.original)
    for label, made, seconds in variants(frontend.original, drafter, draft, stats, source, only):
        runner = Runner(made.model)
        ratios = evaluate(reference, {"": runner}, judged)[""].output_sqnr_db.values()
        value = entry.evaluate(lambda feed, runner=runner: list(runner.run(feed).values()))
        kept = ", ".join(note.split(":")[0] for note in made.trace.notes if ": kept: " in note)
        print(f"  {label:26} {value:8.4f} {min(ratios, default=math.inf):7.2f} dB {seconds:6.1f} s  {kept}", flush=True)


def main() -> None:
    """Prints a table for each model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(NAMES), help="zoo models")
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--only", default="", metavar="TEXT", help="variants whose label holds it")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.names:
            bench(name, arguments.samples, arguments.only, Path(folder))


if __name__ == "__main__":
    main()
