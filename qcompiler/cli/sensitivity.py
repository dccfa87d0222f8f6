"""qcompile sensitivity: which parts of a model quantization harms, and what each costs and saves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from qcompiler.cli import options
from qcompiler.cli.progress import Bar
from qcompiler.cli.show import show


@click.command("sensitivity", short_help="Rank the parts of a model by the harm that quantizing them does.")
@options.model
@click.option("--target", required=True, metavar="NAME[:VARIANT]", help="Target whose table says what is quantized.")
@click.option("--precision", metavar="P", help="A precision of the target.  [default: its first]")
@options.required_data
@click.option("--stats", type=options.FILE, metavar="FILE", help="Statistics from qcompile calibrate.")
@click.option("--use", "use", type=click.IntRange(min=1), default=64, show_default=True, metavar="N",
              help="Measure on the first N samples.")  # fmt: skip
@click.option("--by", default="sqnr", show_default=True, metavar="M", help="Rank by sqnr, kl or metric.")
@click.option("--metric", metavar="M", help="What --by metric means; as for compile.")
@click.option("--without", is_flag=True, help="Measure also what is left when the group alone is float.")
@click.option("--top", type=click.IntRange(min=1), default=20, show_default=True, metavar="K", help="Print K groups.")
@click.option("-o", "--output", type=options.FILE, metavar="FILE", help="Write the whole ranking as JSON.")
@options.recipe
@options.samples
@options.shape
@options.threads
@options.workers
@options.cluster
@options.journal
@click.option("--bench-seconds", type=float, metavar="S", help="0 measures no times.")
@options.as_json
@options.quiet
def command(
    model: Path,
    target: str,
    data: str,
    stats: Path | None,
    use: int,
    by: str,
    without: bool,
    top: int,
    output: Path | None,
    recipe: Path | None,
    as_json: bool,
    quiet: bool,
    shape: tuple[str, ...],
    **wishes: Any,
) -> None:
    """Rank the quantization groups of MODEL by the harm that each does to the outputs, the others being float.

    A group is an operator with what the target computes inside it; its members go to integers or stay float together.
    Beside the harm stand the error of the group itself (local) and its times on this machine in both precisions.

    \b
      qcompile sensitivity model.onnx --target onnxruntime --data calib.npz
      qcompile sensitivity model.onnx --target onnxruntime --data test.npz \\
          --by metric --without -o ranking.json
    """
    wanted = options.make_recipe(recipe, {**wishes, "shapes": shape})
    from qcompiler import ranking
    from qcompiler.analysis.whole_file import write_whole
    from qcompiler.report.ranking_text import ranking_json, ranking_lines

    with Bar(not quiet) as progress:
        found = ranking.sensitivity(
            model, target, data, recipe=wanted, stats=stats, use=use, by=by, without=without, progress=progress
        )
    text = ranking_json(found)
    if output is not None:
        write_whole(output, text.encode())
    if as_json:
        click.echo(text, nl=False)
    elif not quiet:
        show(ranking_lines(found, top))
