"""Time of `qcompile --help`: median of ten runs of a new process, and what the imports of the slowest part cost.

python -m benchmarks.startup
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

RUNS = 10
LIMIT_S = 0.5
HELP = (sys.executable, "-m", "qcompiler", "--help")


def once() -> float:
    """Seconds of one run."""
    start = time.perf_counter()
    subprocess.run(HELP, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def imports(count: int = 5) -> list[str]:
    """The slowest imports, as `python -X importtime` reports them (self, cumulative, microseconds)."""
    command = (HELP[0], "-X", "importtime", *HELP[1:])
    text = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    lines = [line for line in text.splitlines() if line.count("|") == 2 and "cumulative" not in line]
    return sorted(lines, key=lambda line: -int(line.split("|")[1]))[:count]


def main() -> None:
    """Prints the figures; exits with 1 over the limit."""
    once()  # fills the caches of the file system
    times = sorted(once() for _ in range(RUNS))
    median = statistics.median(times)
    print(f"qcompile --help: median {median:.3f} s of {RUNS} runs, {times[0]:.3f} to {times[-1]:.3f} s")
    print("\n".join(imports()))
    if median >= LIMIT_S:
        sys.exit(f"over the limit of {LIMIT_S} s")


if __name__ == "__main__":
    main()
