"""qcompile explain: what was decided in a compile, by which rule, on what evidence."""

from __future__ import annotations

from pathlib import Path

import click

from qcompiler.cli import options
from qcompiler.cli.show import show, show_json
from qcompiler.errors import UsageError


@click.command("explain", short_help="Say why: what a compile decided for each node and tensor.")
@click.argument("out", type=options.FILE)
@click.option("--node", metavar="N", help="A node by name or pattern.")
@click.option("--tensor", metavar="T", help="A tensor by name or pattern.")
@options.as_json
def command(out: Path, node: str | None, tensor: str | None, as_json: bool) -> None:
    """Say what was decided in the compile that wrote the folder OUT, by which rule, and on what evidence.

    \b
      qcompile explain out                      what stayed float, by reason
      qcompile explain out --node 'conv*'       precision, rule, encodings
      qcompile explain out --tensor logits      type, scale, method, noise
    """
    from qcompiler.report import explain
    from qcompiler.report.explain_text import node_lines, output_lines, tensor_lines
    from qcompiler.report.read import read_output

    if node is not None and tensor is not None:
        raise UsageError("give --node or --tensor, not both")
    output = read_output(out)
    if node is not None:
        answers = explain.explain_nodes(output, node)
        show_json(answers) if as_json else show(line for answer in answers for line in node_lines(answer))
    elif tensor is not None:
        answers = explain.explain_tensors(output, tensor)
        show_json(answers) if as_json else show(line for answer in answers for line in tensor_lines(answer))
    else:
        answer = explain.explain_output(output)
        show_json(answer) if as_json else show(output_lines(answer))
