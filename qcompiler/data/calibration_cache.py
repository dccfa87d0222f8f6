"""Ranges of tensors from a calibration cache of TensorRT: the way forward for users of implicit INT8.

    TRT-8601-EntropyCalibration2            first line: version and calibrator
    input_1: 3c010a14                       name of a tensor, and its scale, max |x| / 127

The scale is a float32 as eight hexadecimal digits, highest byte first, or a decimal number. TensorRT 11 reads no such
files any more; it takes scales from Q and DQ in the model alone. Source: NVIDIA, TensorRT developer guide, calibration
caches; the form is that of `IInt8Calibrator.write_calibration_cache`.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Mapping
from pathlib import Path

from qcompiler.errors import DataError

STEPS = 127
LARGEST = 1 << 26
_HEX = re.compile(r"[0-9a-fA-F]{8}")
_HINT = 'a cache begins with a line as "TRT-8601-EntropyCalibration2"; then "tensor: 3c010a14"'


def read_cache(path: Path) -> Mapping[str, float]:
    """max |x| by tensor.

    Raises:
        DataError: the file cannot be read, or is no calibration cache.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise DataError("is no calibration cache", where=str(path), hint=_HINT)
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=str(path)) from error
    except UnicodeDecodeError as error:
        raise DataError("is no calibration cache", where=str(path), hint=_HINT) from error
    if not lines or not lines[0].startswith("TRT"):
        raise DataError("is no calibration cache", where=str(path), hint=_HINT)
    found: dict[str, float] = {}
    for number, line in enumerate(lines[1:], 2):
        if not line.strip():
            continue
        name, colon, text = line.rpartition(":")
        scale = number_of(text.strip())
        if not colon or not name.strip() or scale is None:
            raise DataError(f"line {number} is not NAME: SCALE", where=str(path), hint=_HINT)
        if scale > 0:  # tensors that were all zero have none
            found[name.strip()] = scale * STEPS
    return found


def number_of(text: str) -> float | None:
    """A scale in either form; None where it is neither, or not finite, or negative."""
    try:
        value = struct.unpack(">f", bytes.fromhex(text))[0] if _HEX.fullmatch(text) else float(text)
    except ValueError:
        return None
    return float(value) if math.isfinite(value) and value >= 0 else None
