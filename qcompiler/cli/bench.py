"""qcompile bench: latency of models against each other."""

from __future__ import annotations

from pathlib import Path

import click

from qcompiler.cli import options
from qcompiler.cli.progress import Bar
from qcompiler.cli.show import show, show_json


@click.command("bench", short_help="Time models against each other.")
@click.argument("models", type=options.FILE, nargs=-1, required=True)
@options.data
@options.shape
@click.option(
    "--seconds",
    type=click.FloatRange(min=0.01),
    default=3.0,
    show_default=True,
    metavar="S",
    help="Time for each model, about.",
)
@click.option(
    "--threads", type=click.IntRange(1, 1024), default=1, show_default=True, metavar="N", help="Threads of the runtime."
)
@options.as_json
def command(
    models: tuple[Path, ...], data: str | None, shape: tuple[str, ...], seconds: float, threads: int, as_json: bool
) -> None:
    """Time MODELS in ONNX Runtime in blocks that alternate between them, so that whatever disturbs hits all alike.

    MODELS are ONNX files, or folders that qcompile wrote; ratios are against the first. Without --data the inputs are
    zeros and ones of the shapes that --shape completes: good for time where it does not depend on values, nothing else.

    \b
      qcompile bench model.onnx out --data calib.npz
      qcompile bench model.onnx out --shape batch=1
    """
    from qcompiler.report import side_by_side as sides

    shapes = options.make_recipe(None, {"shapes": shape}).shapes
    with Bar() as progress:
        found = sides.timed(models, data, shapes, seconds, threads, progress)
    if as_json:
        show_json(sides.timing_facts(found))
    else:
        show(sides.timing_lines(found))
