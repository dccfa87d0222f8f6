"""qcompile targets: what can be compiled for."""

from __future__ import annotations

import click

from qcompiler.cli import options
from qcompiler.cli.show import show, show_json


@click.command("targets", short_help="List the targets, or the rule table of one.")
@click.argument("name", required=False)
@options.as_json
def command(name: str | None, as_json: bool) -> None:
    """List the targets with their variants and precisions; with NAME, the rules of that target and their sources."""
    from qcompiler.report import target_facts as facts

    if name is None:
        every = facts.all_targets()
        show_json(every) if as_json else show(facts.targets_lines(every))
    else:
        one = facts.one_target(name)
        show_json(one) if as_json else show(facts.target_lines(one))
