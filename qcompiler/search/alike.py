"""Whether another machine gives the same bits as this one: versions of what computes, and the CPU's instructions."""

from __future__ import annotations

from functools import cache

from qcompiler.errors import WorkerError

PACKAGES = ("qcompiler", "onnxruntime", "onnx", "numpy")


def environment() -> dict[str, str]:
    """What the bits of a result depend on."""
    return dict(_environment())


@cache
def _environment() -> tuple[tuple[str, str], ...]:
    from importlib.metadata import version

    from qcompiler.analysis.cpu import cpu_flags

    return (*((name, version(name)) for name in PACKAGES), ("cpu", " ".join(cpu_flags())))


def check(mine: dict[str, str], others: dict[str, str], worker: str) -> None:
    """Makes sure that a worker may be used.

    Raises:
        WorkerError: it would give other bits.
    """
    for name, value in mine.items():
        if others.get(name) != value:
            what = f"has {name} {others.get(name)}, this machine {value}"
            hint = "results must be the same everywhere: use workers like the machine that runs qcompile"
            raise WorkerError(what, where=f"worker {worker}", hint=hint)
