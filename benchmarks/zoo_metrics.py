"""Metrics of the zoo that labels alone do not give, in the form that `--metric` takes.

Models without truth are judged by the decisions of the float model, which are written into the evaluation data as
labels: speech or not for each chunk, face or not for each anchor.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

SPEECH, FACE = 0.5, 0.6
BACKGROUND = {"mobilenetv3_small": 1}
"""Classes in front of those that labels count: this one has a class for none of them."""
Feed = dict[str, np.ndarray]


def speech(outputs: dict[str, np.ndarray], label: Any) -> float:
    """1 where the decision for a chunk is the label, else 0."""
    return float((next(iter(outputs.values())).reshape(-1)[0] > SPEECH) == bool(np.asarray(label).reshape(-1)[0]))


def faces(outputs: dict[str, np.ndarray], label: Any) -> float:
    """F1 of the anchors that hold a face; 1 where neither has any."""
    wanted, got = np.asarray(label).reshape(-1) > 0, anchors(list(outputs.values()))
    size = int(wanted.sum()) + int(got.sum())
    return 2 * int((wanted & got).sum()) / size if size else 1.0


def anchors(outputs: list[np.ndarray]) -> np.ndarray:
    """Which anchors of the face detector are over the threshold: class score and objectness of three strides."""
    scores = [np.sqrt(np.clip(outputs[k][0, :, 0] * outputs[3 + k][0, :, 0], 0, None)) for k in range(3)]
    return np.asarray(np.concatenate(scores) > FACE)


def labelled(name: str, samples: Iterable[tuple[Feed, object]]) -> Iterator[tuple[Feed, object]]:
    """The samples of a model with the labels that its metric here wants."""
    if name not in ("silero_vad", "yunet_320"):
        for feed, label in samples:
            yield feed, int(label) + BACKGROUND.get(name, 0) if isinstance(label, int) else label
        return
    import onnxruntime as ort

    from benchmarks import zoo_data

    path = zoo_data.load().MODELS[name].path
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for feed, _ in samples:
        outputs = session.run(None, feed)
        if name == "silero_vad":
            yield feed, np.int64(outputs[0].reshape(-1)[0] > SPEECH)
        else:
            yield feed, anchors(outputs).astype(np.int64)
