"""The model zoo for Hexagon: ours, and ONNX Runtime's own QNN helper, through the same compile and the same emulator.

    python -m benchmarks.qnn [NAME ...] [--precision w8a8,w8a16] [--soc sm8650] [--emulate 4] [--accuracy 50]
                             [--no-peer] [--only-peer] [--no-metric] [--json FILE]

Of each model with fixed shapes (`SHAPES`): partitions, float16 islands, bytes of the binary, SQNR of the emulator
against the QDQ model and against float (the worst output), and of the QDQ model against float, on `--emulate` samples
of the evaluation part. A precision is taken as it is: no limit is set, so that the search leaves nothing in float16;
`mixed` is searched. Metric: of the emulated model on the first `--accuracy` samples for the classifiers in `SMALL`
(beside float and QDQ on the same samples), of the QDQ model on the whole evaluation part for the others. The helper is
`get_qnn_qdq_config` behind `qnn_preprocess_model`, activations uint8 or uint16: with its defaults (uint8 weights by
tensor), and "signed" with what suits the chip best: symmetric int8 weights by channel, scales of norms in uint8.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import zoo_data
from benchmarks.peers import Reader
from benchmarks.timing import Feed
from qcompiler import Recipe, compiler, ir
from qcompiler.analysis import Runner
from qcompiler.backends.qnn.compile import Settings, once
from qcompiler.backends.qnn.emulate import check, emulated, outputs_of
from qcompiler.backends.qnn.socs import parse
from qcompiler.frontend import front

LENGTH = 48
"""Tokens of a sentence; shorter ones are padded, and longer ones cut."""
SHAPES = {
    "minilm_l6": {"N": "1", "T": str(LENGTH)}, "stories260k": {"N": "1", "T": "255"},
    "ppocrv3_det": {"x": "1x3x320x320"}, "silero_vad": {"batch": "1", "sequence": "576"}, "yunet_320": {},
}  # fmt: skip
SMALL = ("kws_dscnn", "resnet20_cifar10", "vit_cifar10")
CALIBRATION = 32
SIGNED = "helper, signed"


@dataclass
class Row:
    """One result; ratios in dB, `error` says why there are none."""

    model: str
    precision: str
    who: str
    partitions: int = 0
    islands: list[str] = field(default_factory=list)
    bytes: int = 0
    qdq_db: float | None = None
    float_db: float | None = None
    planned_db: float | None = None
    samples: int = 0
    metric: dict[str, float] = field(default_factory=dict)
    error: str = ""

    def line(self) -> str:
        """The row of a table."""
        ratios = ["-" if ratio is None else f"{ratio:.1f}" for ratio in (self.qdq_db, self.float_db, self.planned_db)]
        metric = ", ".join(f"{name} {value:.4f}" for name, value in self.metric.items())
        cells = [self.model, self.precision, self.who, str(self.partitions), str(len(self.islands)), str(self.bytes)]
        return "| " + " | ".join([*cells, *ratios, metric or self.error]) + " |"


def fixed(name: str, feed: Feed) -> Feed:
    """The feed in the shape that is compiled."""
    if name != "minilm_l6":
        return feed
    return {
        key: np.pad(value[:, :LENGTH], ((0, 0), (0, max(0, LENGTH - value.shape[1])))) for key, value in feed.items()
    }


def feeds(name: str, count: int, part: str) -> list[Feed]:
    """The first feeds of a part of the data."""
    entry = zoo_data.load().MODELS[name]
    source: Iterator[Any] = entry.calibration() if part == "calibration" else (feed for feed, _ in entry.samples())
    return [fixed(name, feed) for feed in itertools.islice(source, count)]


def ours(name: str, precision: str, soc: str, folder: Path) -> Path:
    """Our QDQ model."""
    shapes = SHAPES.get(name, {"N": "1"})
    recipe = Recipe(precision=precision, shapes=shapes, options={"emulate": 0})
    if precision != "mixed":
        recipe = replace(recipe, sqnr_floor=-100.0, max_drop=None)
    entry = zoo_data.load().MODELS[name]
    compiler.compile(entry.path, f"qnn:{soc}", feeds(name, CALIBRATION, "calibration"), output=folder, recipe=recipe)
    return folder / "model.qdq.onnx"


def helper(name: str, precision: str, folder: Path, *, signed: bool) -> Path:
    """That of ONNX Runtime's helper."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize
    from onnxruntime.quantization.execution_providers.qnn import get_qnn_qdq_config, qnn_preprocess_model

    logging.disable(logging.WARNING)
    start = folder / "fixed.onnx"
    model = front(zoo_data.load().MODELS[name].path, None).original
    proto = model.to_proto()
    example = feeds(name, 1, "calibration")[0]
    for value in proto.graph.input:
        shape = example[value.name].shape
        for dim, size in zip(value.type.tensor_type.shape.dim, shape, strict=True):
            dim.Clear()
            dim.dim_value = size
    del proto.graph.value_info[:]
    for value in proto.graph.output:
        value.type.tensor_type.ClearField("shape")
    onnx.save(onnx.shape_inference.infer_shapes(proto), start)
    before = folder / "preprocessed.onnx"
    changed = qnn_preprocess_model(str(start), str(before))
    kind = QuantType.QUInt16 if precision.endswith("a16") else QuantType.QUInt8
    reader = Reader(feeds(name, CALIBRATION, "calibration"))
    source = str(before if changed else start)
    if signed:
        norms = (node for node in onnx.load(source).graph.node if node.op_type == "LayerNormalization")
        config = get_qnn_qdq_config(
            source, reader, activation_type=kind, weight_type=QuantType.QInt8, per_channel=True, weight_symmetric=True,
            init_overrides={norm.input[1]: [{"quant_type": QuantType.QUInt8}] for norm in norms},
        )  # fmt: skip
    else:
        config = get_qnn_qdq_config(source, reader, activation_type=kind, weight_type=QuantType.QUInt8)
    quantize(source, str(folder / "qdq.onnx"), config)
    return folder / "qdq.onnx"


def measured(row: Row, file: Path, soc: str, emulate: int, work: Path) -> Path | None:
    """Fills a row from a QDQ model; gives its context binary, None where it is refused."""
    chip, model = parse(soc), ir.load(file)
    context = work / "context"
    context.mkdir()
    made = once(model, Settings(chip), context, work / "compile")
    casts = {node.name for node in model.all_nodes() if node.op == "Cast"}
    row.partitions, row.islands = made.trace.partitions, [name for name in made.trace.islands if name not in casts]
    row.bytes = sum(path.stat().st_size for path in context.iterdir())
    if not made.ok:
        row.error = f"refused: {'; '.join(list(made.refused)[:3]) or made.error}"[:160]
        return None
    samples = feeds(row.model, emulate, "evaluation")
    original = ir.load(zoo_data.load().MODELS[row.model].path)
    got, _, error = emulated(context / "model_ctx.onnx", samples, chip[0], work / "emulate", lambda *_: None)
    if error:
        row.error = f"emulator: {error}"[:160]
        return context / "model_ctx.onnx"
    checks = check(got, outputs_of(model, samples), outputs_of(original, samples)).values()
    row.samples = len(samples)
    row.qdq_db = min(found.qdq for found in checks)
    row.float_db = min(found.real for found in checks)
    row.planned_db = min(found.planned for found in checks)
    return context / "model_ctx.onnx"


def metrics(row: Row, file: Path, context: Path, soc: str, accuracy: int, work: Path) -> dict[str, float]:
    """Of the emulated model for the small classifiers, of the QDQ model for the others."""
    entry = zoo_data.load().MODELS[row.model]
    runner = Runner(file)
    if row.model not in SMALL:

        def run(feed: Feed) -> list[Any]:
            return list(runner.run(fixed(row.model, feed)).values())

        return {"float": float(entry.float_value), "qdq": float(entry.evaluate(run))}
    pairs = list(itertools.islice(entry.samples(), accuracy))
    samples = [feed for feed, _ in pairs]
    got, _, _ = emulated(context, samples, parse(soc)[0], work / "accuracy", lambda *_: None)
    real = Runner(entry.path)
    sides = {
        "float": [real.run(feed) for feed in samples], "qdq": [runner.run(feed) for feed in samples], "emulated": got,
    }  # fmt: skip
    return {name: top1(values, [label for _, label in pairs]) for name, values in sides.items()} | {"n": len(pairs)}


def top1(outputs: Sequence[Any], labels: Sequence[Any]) -> float:
    """The share of samples whose largest score is the label's."""
    hits = [int(np.argmax(next(iter(o.values())))) == label for o, label in zip(outputs, labels, strict=True)]
    return float(np.mean(hits))


def row_of(name: str, precision: str, who: str, options: argparse.Namespace) -> Row:
    """One result."""
    row = Row(name, precision, who)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        try:
            if who == "ours":
                file = ours(name, precision, options.soc, work / "out")
            else:
                file = helper(name, precision, work, signed=who == SIGNED)
            context = measured(row, file, options.soc, options.emulate, work)
            if context is not None and who == "ours" and not options.no_metric:
                row.metric = metrics(row, file, context, options.soc, options.accuracy, work)
        except Exception as error:  # a peer may fail in any way
            row.error = row.error or f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]
    return row


def main() -> None:
    """Prints a table, and writes it as JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--precision", default="w8a8,w8a16")
    parser.add_argument("--soc", default="sm8650")
    parser.add_argument("--emulate", type=int, default=4)
    parser.add_argument("--accuracy", type=int, default=50)
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument("--only-peer", action="store_true")
    parser.add_argument("--no-metric", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    head = [
        "model",
        "precision",
        "by",
        "partitions",
        "islands",
        "bytes",
        "emulator/QDQ",
        "emulator/float",
        "QDQ/float",
        "metric",
    ]
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head), flush=True)
    rows: list[Row] = []
    people = [*([] if options.only_peer else ["ours"]), *([] if options.no_peer else ["helper", SIGNED])]
    for name in options.names or list(zoo_data.load().MODELS):
        for precision in options.precision.split(","):
            for who in people:
                rows.append(row_of(name, precision, who, options))
                print(rows[-1].line(), flush=True)
                if options.json is not None:
                    options.json.parent.mkdir(parents=True, exist_ok=True)
                    options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


if __name__ == "__main__":
    main()
