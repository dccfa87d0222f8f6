"""What the training scripts of the digits models share: data and its split, training loop, export, files.

The data is scikit-learn's copy of the UCI digits: 1797 images of 8x8 pixels, values 0 to 16.
The rows are used in the order of the file: the first 1285 train, the last 512 evaluate and are used for nothing else.
(They are not shuffled: neighbours in the file may be by one writer and should not fall on both sides of the split.)
The calibration samples are 256 of the training images, as they are, without augmentation.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional

CLASSES = 10
INPUT, OUTPUT = "image", "logits"
EVALUATION, CALIBRATION = 512, 256
SEED = 0
THREADS = 2  # fixed, because the order of float additions depends on it
OPSET = 17


@dataclass(frozen=True)
class Samples:
    """Images, float32 [n, 1, size, size] from 0 to 1, and their labels, int64 [n]."""

    images: NDArray[np.float32]
    labels: NDArray[np.int64]

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> Samples:
        return Samples(self.images[rows], self.labels[rows])

    def save(self, path: Path) -> None:
        """Write as .npz: the images under the model's input name, the labels under `labels`."""
        arrays: dict[str, NDArray[Any]] = {INPUT: self.images, "labels": self.labels}
        np.savez_compressed(path, allow_pickle=False, **arrays)


@dataclass(frozen=True)
class Split:
    """The three parts of the data; `calibration` is a part of `train`, `evaluation` is apart from both."""

    train: Samples
    calibration: Samples
    evaluation: Samples


def load(upsample: int = 1) -> Split:
    """The digits, each side enlarged `upsample` times by bilinear interpolation, in steps of 1/256."""
    pixels, labels = load_digits(return_X_y=True)
    weights = _bilinear(8, upsample)
    images = np.round(weights @ (pixels.reshape(-1, 1, 8, 8) * 16) @ weights.T) / 256
    everything = Samples(images.astype(np.float32), labels.astype(np.int64))
    train, evaluation = everything[:-EVALUATION], everything[-EVALUATION:]
    rows = np.random.default_rng(SEED).permutation(len(train.labels))[:CALIBRATION]
    return Split(train, train[np.sort(rows)], evaluation)


def _bilinear(size: int, factor: int) -> NDArray[np.float64]:
    """The matrix [size * factor, size] that interpolates linearly between pixel centres and holds the edges."""
    centres = np.clip((np.arange(size * factor) + 0.5) / factor - 0.5, 0, size - 1)
    weights: NDArray[np.float64] = np.maximum(0, 1 - np.abs(centres[:, None] - np.arange(size)))
    return weights


def start() -> None:
    """Make everything that follows repeatable; call it before the model is built."""
    torch.manual_seed(SEED)
    torch.set_num_threads(THREADS)
    torch.use_deterministic_algorithms(True)


def warp(images: Tensor, generator: torch.Generator) -> Tensor:
    """Turn (to 0.2 rad), scale and shear (to 15 %), and shift (to an eighth of a side) each image at random."""
    count = len(images)
    angle, shear, grow_x, grow_y, shift_x, shift_y = 2 * torch.rand(6, count, generator=generator) - 1
    cos, sin = torch.cos(0.2 * angle), torch.sin(0.2 * angle)
    row_x = torch.stack([cos * (1 + 0.15 * grow_x), 0.15 * shear - sin, 0.25 * shift_x], dim=1)
    row_y = torch.stack([sin, cos * (1 + 0.15 * grow_y), 0.25 * shift_y], dim=1)
    grid = functional.affine_grid(torch.stack([row_x, row_y], dim=1), list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, align_corners=False)


def train(model: nn.Module, data: Samples, *, epochs: int, rate: float, decay: float, batch: int = 64) -> None:
    """AdamW with one warm-up and decay cycle and warped images; leaves the last weights, in evaluation mode."""
    images, labels = torch.from_numpy(data.images), torch.from_numpy(data.labels)
    generator = torch.Generator().manual_seed(SEED)
    steps = len(labels) // batch
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=rate, total_steps=epochs * steps)
    model.train()
    for epoch in range(epochs):
        order = torch.randperm(len(labels), generator=generator)
        total = 0.0
        for rows in order[: steps * batch].split(batch):
            loss = functional.cross_entropy(model(warp(images[rows], generator)), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        if (epoch + 1) % 10 == 0:
            print(f"epoch {epoch + 1:3d}: training loss {total / steps:.4f}", flush=True)
    model.eval()


def finish(model: nn.Module, split: Split, folder: Path, expected: set[str]) -> None:
    """Write model.onnx, calibration.npz and evaluation.npz, check the model in ONNX Runtime, print what it is.

    `expected` names the operators that the file must contain; with BatchNormalization among them nothing is folded.
    """
    path = folder / "model.onnx"
    _export(model, torch.from_numpy(split.calibration.images[:2]), path, "BatchNormalization" in expected)
    split.calibration.save(folder / "calibration.npz")
    split.evaluation.save(folder / "evaluation.npz")

    proto = onnx.load(path)
    onnx.checker.check_model(proto, full_check=True)
    ops = Counter(node.op_type for node in proto.graph.node)
    if missing := expected - ops.keys():
        raise RuntimeError(f"{path.name} lacks {', '.join(sorted(missing))}")
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    (logits,) = session.run([OUTPUT], {INPUT: split.evaluation.images})
    with torch.no_grad():
        reference = model(torch.from_numpy(split.evaluation.images)).numpy()
    np.testing.assert_allclose(logits, reference, atol=1e-4, rtol=1e-4)

    hits = int((logits.argmax(axis=1) == split.evaluation.labels).sum())
    print(f"parameters {sum(p.numel() for p in model.parameters())}, {path.stat().st_size} bytes")
    print("operators " + ", ".join(f"{op} {n}" for op, n in sorted(ops.items())))
    print(f"accuracy {hits / EVALUATION:.4f} ({hits} of {EVALUATION})")


def _export(model: nn.Module, example: Tensor, path: Path, keep_batchnorm: bool) -> None:
    mode = torch.onnx.TrainingMode.PRESERVE if keep_batchnorm else torch.onnx.TrainingMode.EVAL
    torch.onnx.export(
        model,
        (example,),
        path,
        dynamo=False,
        training=mode,
        do_constant_folding=not keep_batchnorm,
        opset_version=OPSET,
        input_names=[INPUT],
        output_names=[OUTPUT],
        dynamic_axes={INPUT: {0: "batch"}, OUTPUT: {0: "batch"}},
    )
