"""The model zoo beside the project, as a user would hand it to the command line."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

FOLDER = Path(os.environ.get("QCOMPILER_ZOO", Path(__file__).resolve().parents[2] / "shared" / "zoo"))


def load() -> ModuleType:
    """The zoo's own module.

    Raises:
        SystemExit: there is no zoo.
    """
    if not (FOLDER / "zoo.py").is_file():
        raise SystemExit(f"no model zoo at {FOLDER}; set QCOMPILER_ZOO")
    sys.path.insert(0, str(FOLDER))
    return importlib.import_module("zoo")


def feeds(entry: Any, limit: int | None = None) -> list[dict[str, np.ndarray]]:
    """The calibration feeds of a model."""
    found = []
    for feed in entry.calibration():
        if limit is not None and len(found) >= limit:
            break
        found.append(dict(feed))
    return found


def calibration_folder(entry: Any, folder: Path, limit: int | None = None) -> Path:
    """Calibration data as a folder of `.npz` files, one a sample, as shapes may vary."""
    folder.mkdir(parents=True)
    for number, feed in enumerate(feeds(entry, limit)):
        np.savez(folder / f"{number:05d}.npz", **feed)
    return folder


def batches(batch: list[dict[str, np.ndarray]]) -> bool:
    """Whether all feeds have the same shapes."""
    return len({tuple((k, v.shape) for k, v in sorted(feed.items())) for feed in batch}) == 1
