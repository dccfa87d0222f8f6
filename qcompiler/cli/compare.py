"""qcompile compare: two models, layer by layer, on the same samples."""

from __future__ import annotations

from pathlib import Path

import click

from qcompiler.cli import options
from qcompiler.cli.progress import Bar
from qcompiler.cli.show import show, show_json


@click.command("compare", short_help="Compare two models layer by layer, worst first.")
@click.argument("a", type=options.FILE)
@click.argument("b", type=options.FILE)
@options.required_data
@click.option("--samples", type=int, default=32, show_default=True, metavar="N", help="Use at most N samples.")
@click.option("--top", type=click.IntRange(min=1), default=20, show_default=True, metavar="K", help="Print K tensors.")
@options.as_json
def command(a: Path, b: Path, data: str, samples: int, top: int, as_json: bool) -> None:
    """Compare every tensor that the models A and B both have, on the same samples, worst signal-to-noise ratio first.

    A is the reference. A and B are ONNX files, or folders that qcompile wrote.

    \b
      qcompile compare model.onnx out --data calib.npz
    """
    from qcompiler.report import side_by_side as sides

    with Bar() as progress:
        found = sides.compared(a, b, data, samples, progress)
    if as_json:
        show_json(sides.comparison_facts(found, top))
    else:
        show(sides.comparison_lines(found, top))
