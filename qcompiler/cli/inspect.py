"""qcompile inspect: what a model is, and how much of it each target could quantize."""

from __future__ import annotations

from pathlib import Path

import click

from qcompiler.cli import options
from qcompiler.cli.show import show, show_json


@click.command("inspect", short_help="Say what a model is: operators, sizes, shapes, quantizable share.")
@options.model
@click.option("--nodes", is_flag=True, help="List every node after preparation: the names that --keep-float takes.")
@options.shape
@options.as_json
def command(model: Path, nodes: bool, shape: tuple[str, ...], as_json: bool) -> None:
    """Say what MODEL is: operators, parameters, inputs and outputs, opsets, metadata, and the quantizable share.

    MODEL is an ONNX file, or a folder that qcompile wrote. Nothing is run. The share comes from the table of each
    target; the work (multiply-accumulates) from the shapes of Conv, ConvTranspose, Gemm, MatMul and recurrent nodes.
    """
    from qcompiler.report.model_facts import model_facts
    from qcompiler.report.model_text import facts_lines
    from qcompiler.report.side_by_side import model_file

    facts = model_facts(model_file(model), options.make_recipe(None, {"shapes": shape}).shapes)
    if as_json:
        show_json(facts)
    else:
        show(facts_lines(facts, nodes=nodes))
