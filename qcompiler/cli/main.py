"""The command `qcompile`."""

from __future__ import annotations

import click

from qcompiler._version import __version__
from qcompiler.cli import bench, calibrate, compare, compile, diff, explain, inspect, sensitivity, targets
from qcompiler.cli.group import QcompileGroup

HELP = """
Compile a float ONNX model for a target: fused, calibrated, quantized where it pays, run by the target's own runtime,
measured against the float model, and explained. The result is a folder with the model, plan.json and report.json.

\b
Examples:
  qcompile model.onnx --target onnxruntime --data calib.npz -o out
  qcompile model.onnx --target onnxruntime --data calib.npz \\
      --eval test.npz --max-drop 0.5%
  qcompile model.onnx --target onnxruntime   (what can be done without data)
  qcompile inspect model.onnx                (what is in it)
  qcompile explain out --node conv1          (why this node, why this scale)
  qcompile diff out-a out-b                  (what two compiles did otherwise)
  qcompile compare model.onnx out --data calib.npz
                                             (layer by layer, worst first)
  qcompile sensitivity model.onnx --target onnxruntime --data calib.npz
                                             (which parts are harmed most)

\b
Data (--data, --eval) is one of:
  calib.npz             arrays by input name, first axis = samples; "labels"
                        for top-1
  a folder              of .npz files, or of ONNX test_data_set_*
  dataset.toml          images: folder, size, layout, scale, mean, std
  package.module:fn     a function that yields feeds, or (feed, label)
"""

EPILOG = """
\b
Exit status:
  0  done, and the contract holds where there is one
  1  a fault of qcompile: a traceback is printed, please report it
  2  bad usage or input: one line says what and where; nothing is left behind
  3  the accuracy contract or the conformance gate failed; the best result is
     kept (diff: the plans differ)
  4  undecided: too few samples to say whether the contract holds
  130  interrupted; nothing unfinished is left

\b
The output folder appears whole or not at all. One that qcompile wrote is
replaced; any other that holds files is refused.
Documentation: docs/ of the project (first-compile.md, bringing-data.md, ...).
Completion: eval "$(_QCOMPILE_COMPLETE=bash_source qcompile)"
            (or zsh_source, fish_source)
"""


@click.group(
    "qcompile",
    cls=QcompileGroup,
    help=HELP,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="qcompile")
def main() -> None:
    """See `HELP`."""


for module in (compile, calibrate, inspect, explain, diff, compare, sensitivity, bench, targets):
    main.add_command(module.command)
