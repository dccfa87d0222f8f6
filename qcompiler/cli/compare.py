"""qcompile compare: two models, layer by layer, on the same samples."""

from __future__ import annotations

from pathlib import Path

import click

from qcompiler.cli import options
from qcompiler.cli.progress import Bar
from qcompiler.cli.show import show, show_json
from qcompiler.errors import UsageError


@click.command("compare", short_help="Compare two models layer by layer, worst first.")
@click.argument("a", type=options.FILE)
@click.argument("b", type=options.FILE, required=False)
@click.option(
    "--target", metavar="NAME[:VARIANT]", help="Run B in the emulator of this target (qnn); A itself without B."
)
@options.required_data
@click.option("--samples", type=int, metavar="N", help="Use at most N samples.  [default: 32; 2 in an emulator]")
@click.option("--top", type=click.IntRange(min=1), default=20, show_default=True, metavar="K", help="Print K tensors.")
@options.as_json
def command(
    a: Path, b: Path | None, target: str | None, data: str, samples: int | None, top: int, as_json: bool
) -> None:
    """Compare every tensor that the models A and B both have, on the same samples, worst signal-to-noise ratio first.

    A is the reference. A and B are ONNX files, or folders that qcompile wrote; B may be a Core ML package, which is
    read back and evaluated.

    \b
      qcompile compare model.onnx out --data calib.npz
      qcompile compare out-qnn --target qnn:sm8650 --data calib.npz
    """
    from qcompiler.report import side_by_side as sides

    if target is None and b is None:
        raise UsageError("two models are compared", where="B", hint="or one and its emulation: --target qnn")
    with Bar() as progress:
        if target is None:
            found = sides.compared(a, b or a, data, samples or 32, progress)
        else:
            found = sides.emulated(a, b or a, target, data, samples or 2, progress)
    if as_json:
        show_json(sides.comparison_facts(found, top))
    else:
        show(sides.comparison_lines(found, top))
