"""qcompile calibrate: collects statistics once, for any number of compiles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from qcompiler.cli import options
from qcompiler.cli.progress import Bar


@click.command("calibrate", short_help="Collect statistics once, to compile from with --stats.")
@options.model
@click.option("--target", required=True, metavar="NAME[:VARIANT]", help="Target whose table says what to observe.")
@options.required_data
@click.option(
    "-o",
    "--output",
    type=options.FILE,
    metavar="FILE",
    help="File to write.  [default: MODEL.stats.npz, in this folder]",
)
@click.option(
    "--merge",
    type=options.FILE,
    multiple=True,
    metavar="FILE",
    help="Add these statistics of other samples; repeatable.",
)
@options.recipe
@options.samples
@options.shape
@options.threads
@options.workers
@options.cluster
@options.journal
@options.quiet
def command(
    model: Path,
    target: str,
    data: str,
    output: Path | None,
    merge: tuple[Path, ...],
    recipe: Path | None,
    quiet: bool,
    shape: tuple[str, ...],
    **wishes: Any,
) -> None:
    """Run MODEL on all samples of --data and write what was seen of each tensor.

    Every range method can be computed from the file, so one run serves many compiles. Parts of the data may be
    collected on different machines and merged, in any order, with the same result byte for byte.

    \b
      qcompile calibrate model.onnx --target onnxruntime --data calib.npz
      qcompile model.onnx --target onnxruntime --stats model.stats.npz
    """
    wanted = options.make_recipe(recipe, {**wishes, "shapes": shape})
    from qcompiler import compiler

    path = output or Path(f"{model.stem or 'model'}.stats.npz")
    with Bar(not quiet) as progress:
        written = compiler.calibrate(model, target, data, output=path, recipe=wanted, merge=merge, progress=progress)
    if not quiet:
        click.echo(f"written to {written}: use it with qcompile {model} --target {target} --stats {written}")
