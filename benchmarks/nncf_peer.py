"""What NNCF makes of a model: `python nncf_peer.py MODEL FEEDS OUTPUT [transformer]`, by an interpreter that has it.

`nncf.quantize` on the ONNX backend with its default settings; FEEDS is a folder of `.npz` files, one a sample. Imports
nothing of this project, since NNCF wants an environment of its own.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np


def main() -> None:
    """Writes the quantized model."""
    import nncf  # type: ignore[import-not-found]
    import onnx

    model, feeds, output, *kind = sys.argv[1:]
    names = {value.name for value in onnx.load(model, load_external_data=False).graph.input}
    samples: list[dict[str, Any]] = []
    for file in sorted(Path(feeds).glob("*.npz")):
        with np.load(file) as archive:
            samples.append({name: archive[name] for name in archive.files if name in names})
    options = {"model_type": nncf.ModelType.TRANSFORMER} if kind else {}
    made = nncf.quantize(onnx.load(model), nncf.Dataset(samples), subset_size=len(samples), **options)
    onnx.save(made, output)


if __name__ == "__main__":
    main()
