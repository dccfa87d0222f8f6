"""qcompile MODEL --target T: compiles, prints the short table, leaves a folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from qcompiler.cli import options
from qcompiler.cli.progress import Bar
from qcompiler.cli.show import fail, show
from qcompiler.errors import ContractError, UsageError

if TYPE_CHECKING:
    from qcompiler.recipe import Recipe
    from qcompiler.report import Report


@click.command("compile", short_help="Compile a model; what happens where no command is named.")
@options.model
@click.option("--target", "targets", multiple=True, metavar="NAME[:VARIANT]", help="What to compile for; repeatable.")
@click.option("--precision", metavar="P", help="A precision of the target (qcompile targets).  [default: auto]")
@options.data
@click.option("--eval", "evaluation", metavar="E", help="Samples to judge by, forms as --data.  [default: --data]")
@click.option(
    "--max-drop", metavar="X",
    help="Contract: the metric falls by at most X: 1% (points of a share, relative for other metrics), 1pt, 0.01 in the"
    " metric's unit, '1% relative', none.  [default: 1% steers the choice and fails nothing]",
)  # fmt: skip
@click.option("--confidence", type=float, metavar="C", help="How sure a verdict on --max-drop is.  [default: 0.95]")
@click.option(
    "-o", "--output", type=options.FILE, metavar="DIR",
    help="Folder to write; with several targets, a folder of one for each.  [default: MODEL-TARGET, in this folder]",
)  # fmt: skip
@options.recipe
@click.option("--method", metavar="M", help="Ranges: auto, minmax, percentile, entropy or mse.  [default: auto]")
@click.option("--preset", metavar="P", help="Accuracy algorithms: fast, balanced or best.  [default: balanced]")
@click.option(
    "--algorithm", "algorithms", multiple=True, metavar="NAME=on|off",
    help="Switch one accuracy algorithm, whatever the preset; repeatable.",
)  # fmt: skip
@click.option(
    "--weight-method", metavar="W", help="Weights in blocks: auto, rtn, mse, hqq, gptq or awq.  [default: auto]"
)
@click.option(
    "--keep-float", multiple=True, metavar="PATTERN",
    help="Keep nodes or tensors float by name, patterns as in the shell; repeatable.",
)  # fmt: skip
@options.samples
@options.shape
@click.option(
    "--metric", metavar="M",
    help="Judge by top-1, top-5, mse, sqnr, cosine, spearman, perplexity, tokens, kl, agreement, f1:THRESHOLD"
    " (each with @OUTPUT), or by your package.module:FN(outputs, label) -> number, higher is better.",
)  # fmt: skip
@click.option(
    "--stats", type=options.FILE, metavar="FILE", help="Statistics from qcompile calibrate, in place of --data."
)
@click.option("--ranges", metavar="FILE", help="Ranges from a calibration cache of TensorRT, in place of --data.")
@click.option("--dump-passes", type=options.FILE, metavar="DIR", help="Write the graph as text after each pass.")
@options.of_target(
    "--optimized", is_flag=True, help="onnxruntime: write its optimised graph, too: loads faster, here only."
)
@options.of_target(
    "--emulate",
    type=click.IntRange(min=0),
    metavar="N",
    help="qnn: run the binary on N samples in emulation.  [default: 8]",
)
@options.of_target(
    "--allow", multiple=True, metavar="PATTERN",
    help="qnn: nodes that may run on the CPU, or in float16 against the plan; repeatable.",
)  # fmt: skip
@options.of_target(
    "--a16", multiple=True, metavar="PATTERN", help="qnn: nodes with 16-bit activations in precision mixed; repeatable."
)
@options.of_target(
    "--blocks", is_flag=True, help="qnn: int4 weights of MatMul by blocks of 32, w4a16; a float16 kernel."
)
@options.of_target("--native-gelu", is_flag=True, help="qnn: with 16-bit activations Gelu stays one operator.")
@options.of_target("--embed", is_flag=True, help="qnn: one ONNX file that holds the binary.")
@options.of_target(
    "--format",
    metavar="F",
    help="onnxruntime, w4: int, ternary, nf4, fp4, mxfp4, nvfp4, fp8 or codebook.  [default: int]",
)
@options.of_target(
    "--bits", type=int, metavar="N", help="onnxruntime, w4: bits of a weight, 2, 3, 4 or 8.  [default: 4]"
)
@options.of_target(
    "--block", type=int, metavar="N", help="onnxruntime, w4: weights in a block, 16 to 256.  [default: 32]"
)
@options.of_target("--symmetric", is_flag=True, help="onnxruntime, w4: store no zero points.")
@options.of_target(
    "--table-bits", type=int, metavar="N", help="onnxruntime, w4: bits of tables, 0 is float.  [default: 8]"
)
@options.of_target("--mixed-bits", is_flag=True, help="onnxruntime, w4: 8 bits where a layer's role needs them.")
@options.of_target(
    "--average-bits", type=float, metavar="B", help="onnxruntime, w4: bits of a weight on average, each layer its own."
)
@options.of_target("--portable", is_flag=True, help="onnxruntime, w4: standard DequantizeLinear, no own operators.")
@options.of_target(
    "--accuracy-level", type=int, metavar="N", help="onnxruntime, w4: 4 computes in int8, 0 in float32.  [default: 4]"
)
@options.of_target(
    "--kv-cache", metavar="T", help="Store the cache of keys and values as int8, fp8 or int4: what the target can."
)
@options.of_target(
    "--image", multiple=True, metavar="NAME:RGB:SCALE:BIAS", help="coreml: an input fed with pixels; RGB, BGR or GRAY."
)
@options.of_target("--labels", metavar="FILE", help="coreml: the classes, one a line; gives label and scores.")
@options.of_target(
    "--enumerate", multiple=True, metavar="NAME=SHAPE,...", help="coreml: an input with a few fixed shapes."
)
@options.of_target(
    "--state", multiple=True, metavar="PAST=PRESENT[:N]", help="coreml: a cache that the package keeps, of N places."
)
@options.of_target("--metadata", multiple=True, metavar="KEY=VALUE", help="coreml: author, license, version, or yours.")
@options.of_target("--engine", is_flag=True, help="tensorrt: keep the engine that the builder made.")
@options.of_target(
    "--allow-float", multiple=True, metavar="NODE",
    help="tensorrt: NODE may compute in float though it was planned in fewer bits; repeatable.",
)  # fmt: skip
@options.of_target("--allow-fallback", is_flag=True, help="tensorrt: any node may.")
@options.of_target(
    "--put",
    multiple=True,
    metavar="PATTERN=P",
    help="tensorrt: nodes with a precision of their own in mixed; repeatable.",
)
@options.threads
@options.workers
@options.cluster
@options.journal
@click.option("--time-budget", metavar="T", help='Ship the best so far after about T ("10m", "90s").')
@click.option(
    "--bench-seconds", type=float, metavar="S", help="Time to spend on measuring latency, about; 0 trusts the table."
)
@click.option(
    "--bench-shape", "bench_shapes", multiple=True, metavar="SHAPE",
    help='Measure latency on inputs of this shape ("batch=8,seq=128", "x=1x128"); repeatable.',
)  # fmt: skip
@click.option("--optimize", metavar="O", help="What is to be least: latency, size or bits.  [default: latency]")
@click.option("--latency", metavar="FILE", help="Times of nodes from a device (JSON), to choose precisions by.")
@click.option("--pareto", is_flag=True, default=None, help="Write every plan on the Pareto front that was found.")
@click.option(
    "--on-disk", is_flag=True, default=None,
    help="Keep weights on disk, and run models piece by piece, for those larger than memory.  [default: over 2 GiB]",
)  # fmt: skip
@options.as_json
@options.quiet
@click.option("-v", "--verbose", is_flag=True, help="Print the whole table and the time of each pass.")
def command(
    model: Path,
    targets: tuple[str, ...],
    data: str | None,
    evaluation: str | None,
    output: Path | None,
    recipe: Path | None,
    stats: Path | None,
    dump_passes: Path | None,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    shape: tuple[str, ...],
    **wishes: Any,
) -> int:
    """Compile MODEL for each target."""
    check(model, targets)
    common, special = options.apart(wishes)
    wanted = options.make_recipe(recipe, {**common, "shapes": shape})
    recipes = {target: with_options(wanted, target, special, alone=len(targets) == 1) for target in targets}
    statuses, reports = [], []
    for target in targets:
        folder = place(model, target, output, several=len(targets) > 1)
        dump = dump_passes / slug(target) if dump_passes is not None and len(targets) > 1 else dump_passes
        try:
            with Bar(not quiet) as progress:
                status, report = run(model, target, data, folder, evaluation, recipes[target], stats, dump, progress)
        except ContractError as error:
            statuses.append(fail(error.exit_status, str(error)))
            continue
        statuses.append(status)
        reports.append(report)
        if not (as_json or quiet):
            print_report(report, folder, verbose=verbose, first=len(statuses) == 1)
    if as_json and reports:
        texts = [report.to_json() for report in reports]
        click.echo(texts[0] if len(targets) == 1 else f"[{','.join(texts)}]\n", nl=False)
    return min((status for status in statuses if status), default=0)


def run(
    model: Path,
    target: str,
    data: str | None,
    folder: Path,
    evaluation: str | None,
    recipe: Recipe,
    stats: Path | None,
    dump: Path | None,
    progress: Any,
) -> tuple[int, Report]:
    """Status and report of one target."""
    from qcompiler import compiler

    result = compiler.compile(
        model, target, data, output=folder, evaluation=evaluation, recipe=recipe, stats=stats, dump_passes=dump,
        progress=progress,
    )  # fmt: skip
    return result.exit_status, result.report


def with_options(recipe: Recipe, target: str, given: Mapping[str, Any], *, alone: bool) -> Recipe:
    """The recipe of one target; of several targets each gets the options that it takes."""
    from dataclasses import replace

    from qcompiler import backends
    from qcompiler.backends.base import options_of

    if not given:
        return recipe
    taken = options_of(backends.get(target))
    fitting = {key: value for key, value in given.items() if alone or key in taken}
    return replace(recipe, options={**recipe.options, **fitting})


def check(model: Path, targets: tuple[str, ...]) -> None:
    """What can be said before anything is read.

    Raises:
        UsageError: no target, an unknown one, one twice; a model that is not there and looks like a command.
    """
    from difflib import get_close_matches

    from qcompiler import backends

    known = ", ".join(backends.names())
    if not model.exists():
        near = get_close_matches(
            str(model),
            ["calibrate", "inspect", "explain", "diff", "compare", "sensitivity", "bench", "targets"],
            1,
        )
        raise UsageError("no such file", where=str(model), hint=f"or the command {near[0]}?" if near else "")
    if not targets:
        raise UsageError("is missing: say what to compile for", where="--target", hint=f"known: {known}")
    for number, target in enumerate(targets):
        backends.get(target)
        if slug(target) in map(slug, targets[:number]):
            raise UsageError(f"{target!r} is given twice", where="--target")


def slug(target: str) -> str:
    """The target as the name of a folder."""
    return target.replace(":", "-")


def place(model: Path, target: str, output: Path | None, *, several: bool) -> Path:
    """Where the result for a target goes."""
    if output is None:
        return Path(f"{model.stem or 'model'}-{slug(target)}")
    return output / slug(target) if several else output


def print_report(report: Report, folder: Path, *, verbose: bool, first: bool) -> None:
    """The table, and with `verbose` all of it and the passes."""
    from qcompiler.report.columns import Line, table
    from qcompiler.report.text import SHOWN, lines

    if not first:
        click.echo()
    show(lines(report, str(folder), shown=10**6 if verbose else SHOWN))
    if verbose:
        rows = [[line.name, str(line.changes), f"{line.seconds:.3f} s"] for line in report.passes]
        show([Line("passes (name, changes, time):"), *map(Line, table(rows, right=(1, 2), indent=2))])
