"""Which CPU this is, as far as ONNX Runtime's choice of kernels and layouts depends on it."""

from __future__ import annotations

import platform
from pathlib import Path

FLAGS = frozenset(
    {
        "avx", "avx2", "avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_vnni", "avx512_bf16", "avx_vnni",
        "avx_vnni_int8", "amx_int8", "amx_bf16", "f16c", "fma", "sse4_1",
        "asimd", "asimddp", "asimdhp", "i8mm", "bf16", "sve", "sve2",
    }
)  # fmt: skip
"""Names as Linux writes them; the last row is of Arm."""


def cpu_flags(file: Path = Path("/proc/cpuinfo")) -> tuple[str, ...]:
    """The architecture, then the instruction sets that matter, sorted; the architecture alone where none are listed."""
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    listed = next((line.partition(":")[2].split() for line in lines if line.startswith(("flags", "Features"))), [])
    return (platform.machine(), *sorted(FLAGS.intersection(listed)))
