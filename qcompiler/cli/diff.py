"""qcompile diff: two plans beside each other."""

from __future__ import annotations

from pathlib import Path

import click

from qcompiler.cli import options
from qcompiler.cli.show import show, show_json

DIFFERENT = 3


@click.command("diff", short_help="Say what differs between two plans, and in their figures.")
@click.argument("a", type=options.FILE)
@click.argument("b", type=options.FILE)
@click.option("--top", type=click.IntRange(min=1), default=20, show_default=True, metavar="K", help="Print K of each.")
@options.as_json
@options.quiet
def command(a: Path, b: Path, top: int, as_json: bool, quiet: bool) -> int:
    """Say which nodes and tensors the plans A and B treat otherwise, with accuracy, latency and size side by side.

    A and B are folders that qcompile wrote, or plan files. Exit status: 0 the plans are the same, 3 they differ.

    \b
      qcompile diff out-minmax out-mse
      qcompile diff out/plan.json plan.json --json
    """
    from qcompiler.report.difference import difference, difference_facts, read_side
    from qcompiler.report.difference_text import difference_lines

    found = difference(read_side(a), read_side(b))
    if as_json:
        show_json(difference_facts(found))
    elif not quiet:
        show(difference_lines(found, top))
    return 0 if found.same else DIFFERENT
