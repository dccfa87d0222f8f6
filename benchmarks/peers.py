"""What ONNX Runtime's own quantizer makes of a model, at its best settings.

Static: QDQ, uint8 activations, int8 per-channel weights, after `quant_pre_process`, min-max and percentile.
Dynamic: int8 per-channel weights, MatMulConstBOnly, the setting that its documentation gives for transformers.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

Feed = dict[str, np.ndarray]
PER_CHANNEL_OPSET = 13
"""The first opset with per-channel Q and DQ; an older model is converted, as ONNX Runtime's documentation advises."""


class Reader:
    """The calibration reader that ONNX Runtime wants."""

    def __init__(self, feeds: Sequence[Feed]) -> None:
        self._feeds = list(feeds)
        self._next = iter(self._feeds)

    def get_next(self) -> Feed | None:
        """The next feed, None at the end."""
        return next(self._next, None)

    def __len__(self) -> int:
        return len(self._feeds)

    def set_range(self, start_index: int, end_index: int) -> None:
        """Restricts the reader, as the calibrators ask in their streaming mode."""
        self._next = iter(self._feeds[start_index:end_index])

    def rewind(self) -> None:
        """Starts again."""
        self._next = iter(self._feeds)


def preprocessed(path: Path, folder: Path) -> Path:
    """The model after ONNX Runtime's own preparation, or as it is where that fails."""
    import onnx
    from onnx import version_converter
    from onnxruntime.quantization.shape_inference import quant_pre_process

    target = folder / "pre.onnx"
    header = onnx.load(path, load_external_data=False)
    if next(opset.version for opset in header.opset_import if not opset.domain) < PER_CHANNEL_OPSET:
        onnx.save(version_converter.convert_version(header, PER_CHANNEL_OPSET), folder / "newer.onnx")
        path = folder / "newer.onnx"
    try:
        quant_pre_process(str(path), str(target), skip_symbolic_shape=True)
    except Exception:  # it fails on models with subgraphs, among others
        return path
    return target


def static(path: Path, feeds: Sequence[Feed], method: str, output: Path) -> Path:
    """Static quantization with `method` "MinMax" or "Percentile"."""
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        quantize_static(
            str(preprocessed(path, Path(folder))),
            str(output),
            Reader(feeds),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            calibrate_method=getattr(CalibrationMethod, method),
        )
    return output


def dynamic(path: Path, output: Path) -> Path:
    """Dynamic quantization of matrix products."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        quantize_dynamic(
            str(preprocessed(path, Path(folder))),
            str(output),
            weight_type=QuantType.QInt8,
            per_channel=True,
            extra_options={"MatMulConstBOnly": True},
        )
    return output
