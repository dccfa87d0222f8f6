"""The model zoo beside the project, as a user would hand it to the command line."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterable
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
    found: list[dict[str, np.ndarray]] = []
    for feed in entry.calibration():
        if limit is not None and len(found) >= limit:
            break
        found.append(dict(feed))
    return found


def calibration_folder(samples: Iterable[dict[str, np.ndarray]], folder: Path) -> Path:
    """Calibration data as a folder of `.npz` files, one a sample, as shapes may vary."""
    folder.mkdir(parents=True)
    for number, feed in enumerate(samples):
        arrays: dict[str, Any] = dict(feed)
        np.savez(folder / f"{number:05d}.npz", **arrays)
    return folder


def bench_feed(name: str, found: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """What latency is measured on: a calibration sample; for sentences one of 128 tokens."""
    if name.startswith("minilm"):
        ids = np.resize(np.concatenate([feed["input_ids"] for feed in found[:16]], axis=1), (1, 128))
        return {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    return found[0]
