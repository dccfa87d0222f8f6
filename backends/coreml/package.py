"""Writes a package so that equal models give equal bytes.

coremltools puts random identifiers into the manifest, and orders maps of the protobuf by a hash; both are normalised:
identifiers are counted from the content's own paths, maps are written in the order of their keys.
"""

from __future__ import annotations

import json
import shutil
import uuid
from pathlib import Path
from typing import Any

from qcompiler.backends.coreml.tools import coremltools
from qcompiler.errors import InternalError

MODEL = Path("Data") / "com.apple.CoreML" / "model.mlmodel"
WEIGHTS = Path("Data") / "com.apple.CoreML" / "weights" / "weight.bin"
MANIFEST = "Manifest.json"


def save(model: Any, path: Path) -> None:
    """Writes `path`, a folder that ends in .mlpackage.

    Raises:
        InternalError: coremltools wrote another layout than it did.
    """
    if path.exists():
        shutil.rmtree(path)
    model.save(str(path))
    if not (path / MODEL).is_file() or not (path / MANIFEST).is_file():
        raise InternalError("coremltools wrote a package of another layout", where=str(path))
    normalise_model(path / MODEL)
    normalise_manifest(path / MANIFEST)


def normalise_model(file: Path) -> None:
    """The protobuf with its maps in order."""
    spec = coremltools().proto.Model_pb2.Model()
    spec.ParseFromString(file.read_bytes())
    file.write_bytes(spec.SerializeToString(deterministic=True))


def normalise_manifest(file: Path) -> None:
    """The manifest with identifiers that follow from the paths."""
    manifest = json.loads(file.read_text(encoding="utf-8"))
    entries = manifest.get("itemInfoEntries", {})
    named = {old: str(uuid.uuid5(uuid.NAMESPACE_URL, entry["path"])).upper() for old, entry in entries.items()}
    manifest["itemInfoEntries"] = {named[old]: entry for old, entry in entries.items()}
    root = manifest.get("rootModelIdentifier")
    if root is not None:
        manifest["rootModelIdentifier"] = named.get(root, root)
    file.write_text(json.dumps(manifest, indent=4, sort_keys=True) + "\n", encoding="utf-8")


def size(path: Path) -> int:
    """Bytes of all files of a package."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
