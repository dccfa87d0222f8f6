"""All of ONNX's node tests whose operators Core ML's table has: passed, refused with the reason, failed.

python -m benchmarks.coreml_node_tests [--os 18] [--half] [--only PART] [--refused]
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from collections import Counter
from pathlib import Path

from tests.backends.coreml import node_tests


def main() -> None:
    """Prints the counts, what failed, and on demand what was refused."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--os", type=int, default=18)
    parser.add_argument("--half", action="store_true")
    parser.add_argument("--only", default="")
    parser.add_argument("--refused", action="store_true")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    counts: Counter[str] = Counter()
    ways: Counter[str] = Counter()
    ops: set[str] = set()
    with tempfile.TemporaryDirectory() as folder:
        for case in node_tests.cases(given.only):
            found = node_tests.run(case, Path(folder), given.os, given.half)
            counts[found.verdict] += 1
            if found.verdict == "passed":
                ways[found.detail] += 1
                ops |= set(found.op.split("+"))
            elif found.verdict == "failed" or given.refused:
                print(f"{found.verdict} {found.name}: {found.detail[:200]}", flush=True)
    print(f"{sum(counts.values())} tests: {dict(counts)}; {len(ops)} operators; {dict(ways)}")


if __name__ == "__main__":
    main()
