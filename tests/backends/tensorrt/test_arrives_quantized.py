"""Models that ONNX Runtime's quantizer wrote, for TensorRT: taken apart, planned anew, built, and beside themselves."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import pytest
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from qcompiler.backends.tensorrt import build as builder
from qcompiler.compiler import Result, compile
from qcompiler.errors import ModelError
from qcompiler.recipe import Recipe
from tests.graphs import Arrays

QDQ, QOP, U8, S8 = QuantFormat.QDQ, QuantFormat.QOperator, QuantType.QUInt8, QuantType.QInt8
FORMS = [(QOP, U8, S8), (QOP, U8, U8), (QOP, S8, S8), (QDQ, U8, S8), (QDQ, S8, S8)]


class Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, feeds: Sequence[Arrays]) -> None:
        self.feeds: Iterator[Arrays] = iter(feeds)

    def get_next(self) -> Arrays | None:
        return next(self.feeds, None)


def network(folder: Path) -> tuple[Path, list[Arrays]]:
    """Convolutions with a residual, a pool, and a head, whose Relus ORT's quantizer leaves to the grids."""
    rng = np.random.default_rng(7)
    proto = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[1, 16, 12, 12] x) => (float[1, 20] y) {'
        " a = Conv<pads = [1, 1, 1, 1]>(x, v, bv) r = Relu(a) b = Conv<pads = [1, 1, 1, 1]>(r, w, bw) s = Add(b, r)"
        " t = Relu(s) m = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(t) c = Conv(m, u) d = Sigmoid(c)"
        " e = Mul(c, d) p = GlobalAveragePool(e) f = Flatten(p) y = Gemm<transB = 1>(f, h, bh) }"
    )
    shapes = {"v": (32, 16, 3, 3), "w": (32, 32, 3, 3), "u": (32, 32, 3, 3), "h": (20, 32)}
    for name, shape in shapes.items():
        values = rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]))
        proto.graph.initializer.append(onnx.numpy_helper.from_array(values.astype(np.float32), name))
    for name, size in {"bv": 32, "bw": 32, "bh": 20}.items():
        proto.graph.initializer.append(
            onnx.numpy_helper.from_array(rng.normal(size=size).astype(np.float32) * 0.1, name)
        )
    onnx.save(proto, folder / "float.onnx")
    return folder / "float.onnx", [{"x": rng.normal(size=(1, 16, 12, 12)).astype(np.float32)} for _ in range(16)]


def static(path: Path, feeds: Sequence[Arrays], form: tuple[QuantFormat, QuantType, QuantType]) -> Path:
    kind, activation, weight = form
    ready, done = path.with_suffix(".ready.onnx"), path.with_suffix(".static.onnx")
    quant_pre_process(str(path), str(ready), skip_symbolic_shape=True)
    quantize_static(
        str(ready), str(done), Reader(feeds), quant_format=kind, activation_type=activation, weight_type=weight,
        per_channel=weight == S8,
    )  # fmt: skip
    return done


def compiled(path: Path, feeds: Sequence[Arrays], data: Sequence[Arrays] | None = None, **wishes: object) -> Result:
    recipe = Recipe(precision="int8", max_drop=None).updated(wishes)
    return compile(path, "tensorrt", data, evaluation=feeds, output=path.parent / "out", recipe=recipe)


def judged(found: Result, precision: str = "int8") -> float:
    """Signal-to-noise ratio beside the incoming model, which is the float model of the report."""
    ratio = next(line.worst_sqnr_db for line in found.report.candidates if line.precision == precision)
    assert ratio is not None
    return ratio


@pytest.mark.parametrize("form", FORMS, ids=lambda form: "-".join(part.name for part in form))
def test_static_models_keep_their_ranges(tmp_path: Path, form: tuple[QuantFormat, QuantType, QuantType]) -> None:
    path, feeds = network(tmp_path)
    found = compiled(static(path, feeds, form), feeds)  # no data: every range is the model's own
    assert found.exit_status == 0 and found.report.target["shipped"] == "int8"
    planned = {found.plan.nodes[n.name].precision for n in onnx_nodes(tmp_path) if n.op_type in ("Conv", "Gemm")}
    assert planned == {"int8"}
    assert judged(found) > 20
    if builder.version():
        assert found.report.backend["compiled"] and found.report.backend["fallback"] == []
        assert found.report.backend["kernels_by_precision"]["int8"] == 4
    stored = {t.data_type for t in onnx.load(tmp_path / "out" / "model.onnx").graph.initializer}
    assert onnx.TensorProto.INT8 in stored and not stored & {onnx.TensorProto.UINT8, onnx.TensorProto.INT32}


def onnx_nodes(folder: Path) -> Sequence[onnx.NodeProto]:
    return list(onnx.load(folder / "out" / "model.onnx").graph.node)


def test_a_dynamic_model_is_calibrated(tmp_path: Path) -> None:
    path, feeds = network(tmp_path)
    quantize_dynamic(str(path), str(tmp_path / "dynamic.onnx"), weight_type=U8)
    found = compiled(tmp_path / "dynamic.onnx", feeds, feeds)
    assert found.exit_status == 0 and judged(found) > 25
    assert not {n.op_type for n in onnx_nodes(tmp_path)} & {"ConvInteger", "MatMulInteger", "DynamicQuantizeLinear"}


def test_a_node_without_such_a_form_is_named(tmp_path: Path) -> None:
    path, feeds = network(tmp_path)
    quantize_dynamic(str(path), str(tmp_path / "dynamic.onnx"), weight_type=U8)
    proto = onnx.load(tmp_path / "dynamic.onnx")
    integer = next(n for n in proto.graph.node if n.op_type == "MatMulInteger")
    del integer.input[2:]  # without its zero point the codes are no rounding of x any more
    onnx.save(proto, tmp_path / "odd.onnx")
    with pytest.raises(ModelError, match="no such operator") as caught:
        compiled(tmp_path / "odd.onnx", feeds, feeds)
    assert integer.name in caught.value.where or "DynamicQuantizeLinear" in caught.value.where


@pytest.mark.zoo
@pytest.mark.parametrize("form", [(QOP, U8, S8), (QDQ, S8, S8)], ids=["operators", "pairs"])
def test_a_real_model(zoo: ModuleType, tmp_path: Path, form: tuple[QuantFormat, QuantType, QuantType]) -> None:
    entry = zoo.MODELS["resnet20_cifar10"]
    (tmp_path / "m.onnx").write_bytes(Path(entry.path).read_bytes())
    feeds = [dict(feed) for feed in itertools.islice(entry.calibration(), 16)]
    unseen = [feed for feed, _ in itertools.islice(entry.samples(), 100)]
    found = compiled(static(tmp_path / "m.onnx", feeds, form), unseen)
    assert found.exit_status == 0 and judged(found) > 20
    line = next(line for line in found.report.candidates if line.precision == "int8")
    assert line.metric is not None and line.metric >= 0.95  # top-1 agreement with the incoming model
    if builder.version():
        assert found.report.backend["kernels_by_precision"]["int8"] >= 18 and found.report.backend["fallback"] == []
