"""The evaluator of saved packages against coremltools' own operator tests, shipped in its wheel with expected values.

    python -m benchmarks.coreml_oracle [--files iOS14/test_conv.py ...] [--select smoke]

Each comparison that those tests would make on a Mac is made on the evaluator: the package is saved, read back, run.
Operations that the evaluator does not know are skipped and counted; a mismatch is printed and counted. The last line
has the tests themselves: passed, failed, and skipped by reason; "not an ML program" are those of the older format. Most
tests of convolutions, quantize, LSTM and GRU make their expected values with PyTorch: where that is missing they are
skipped, or their file cannot be imported, which is counted, too. To run them, with every parameter:

    pip install torch==2.13.0    # into the environment that has this project and coremltools
    python -m benchmarks.coreml_oracle --select "" --files iOS14/test_conv.py iOS17/test_quantization.py \\
        iOS14/test_recurrent.py iOS17/test_recurrent.py
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qcompiler.backends.coreml.evaluate import Package
from qcompiler.backends.coreml.tools import coremltools
from qcompiler.errors import QCompilerError

counts: Counter[str] = Counter()
said: list[str] = []


def compare(
    mlmodel: Any,
    input_key_values: Any,
    expected_outputs: Any,
    dtype: str = "fp32",
    atol: float = 1e-4,
    rtol: float = 1e-5,
    **_: Any,
) -> None:
    """In place of coremltools' `compare_backend`."""
    if not mlmodel.is_package:
        pytest.skip("not an ML program")
    with tempfile.TemporaryDirectory() as folder:
        mlmodel.save(f"{folder}/m.mlpackage")
        try:
            package = Package.load(Path(folder) / "m.mlpackage")
            got = package.run({name: np.asarray(value) for name, value in input_key_values.items()})
        except QCompilerError as error:
            reason = "unknown operation" if "not known" in str(error) else f"error: {error}"[:120]
            counts[reason] += 1
            pytest.skip(reason)
    if dtype == "fp16":
        atol, rtol = max(atol * 100, 5e-2), max(rtol * 100, 2e-2)
    for name, wanted in expected_outputs.items():
        try:
            np.testing.assert_allclose(np.asarray(got[name], np.float64), wanted, atol=atol, rtol=rtol)
            counts["equal"] += 1
        except AssertionError as error:
            counts["mismatch"] += 1
            said.append(f"{sorted(package.ops)}: {' '.join(str(error).split())[:200]}")


class Outcomes:
    """A plugin of pytest that counts tests: passed, failed, skipped for a reason."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """One phase of a test; what passes in setup and teardown is no test of its own."""
        if hasattr(report, "wasxfail"):
            self.counts["skipped: known to coremltools to fail"] += report.when == "call"
        elif report.skipped and isinstance(report.longrepr, tuple):
            self.counts[f"skipped: {report.longrepr[2].removeprefix('Skipped: ')}"] += 1
        elif report.failed:
            self.counts["failed"] += 1
            said.append(f"{report.nodeid}: {' '.join(str(report.longrepr).split())[-200:]}")
        elif report.when == "call":
            self.counts[report.outcome] += 1


def main() -> None:
    """Runs the tests, prints the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", nargs="*", default=[])
    parser.add_argument("--select", default="smoke")
    given = parser.parse_args()
    coremltools()
    from coremltools.converters.mil.mil.ops import tests
    from coremltools.converters.mil.mil.ops.tests import testing_utils

    testing_utils.compare_backend = compare
    root = Path(next(iter(tests.__path__)))
    files = given.files or [str(p.relative_to(root)) for p in sorted(root.glob("iOS1[4-8]/test_*.py"))]
    outcomes = Outcomes()
    for file in files:
        before = Counter(counts)
        with contextlib.redirect_stdout(io.StringIO()):
            options = ["-q", "-k", given.select, "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", str(root)]
            code = pytest.main([str(root / file), *options], plugins=[outcomes])
        if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED):
            counts["files that cannot be imported"] += 1
        print(file, dict(counts - before), flush=True)
    print("comparisons", dict(counts))
    print("tests", dict(outcomes.counts))
    print("\n".join(said))


if __name__ == "__main__":
    main()
