"""From a file to a graph that any target can be planned on: load, prepare, adopt given encodings, fuse."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from qcompiler import ir
from qcompiler.analysis.finite_weights import check_weights
from qcompiler.analysis.inputs import inputs_of
from qcompiler.analysis.same_function import SameFunction
from qcompiler.data import InputInfo
from qcompiler.errors import OutputError
from qcompiler.numerics.normal_moments import Moments
from qcompiler.passes.condition.rotate_residual import RotateResidual
from qcompiler.passes.fusion import fusion_rules
from qcompiler.passes.fusion.expand_operators import ExpandOperators
from qcompiler.passes.plan.adopt_qdq import AdoptQdq
from qcompiler.passes.plan.carry_grids import carried
from qcompiler.passes.plan.promised_means import folded_norms
from qcompiler.passes.prepare import (
    LOOPS,
    EliminateDead,
    NameEverything,
    OverrideShapes,
    StateSizes,
    StripInputInitializers,
    parse_shape,
    prepare,
    simplify_passes,
)
from qcompiler.passes.prepare.qlinear_to_qdq import QlinearToQdq
from qcompiler.passes.prepare.scalar_scales import ScalarScales
from qcompiler.passes.prepare.static_products import StaticProducts
from qcompiler.passes.prepare.widen_half import WidenHalf
from qcompiler.pipeline import GraphPass, Instrument, Journey, PassRecord, Pipeline, Span, guarded
from qcompiler.quant import Encoding, Site
from qcompiler.rewrite import Rule


@dataclass(frozen=True, eq=False)
class Frontend:
    """A model that is ready for any target.

    Attributes:
        path: the file it came from.
        original: as loaded, for comparison.
        prepared: after all rewrites that do not depend on a target.
        given: encodings that the model came with.
        pipeline: the passes so far, with their instruments.
        spans: what must not have changed the function: all, but for taking out quantization that the model came with.
        again: makes it again from the model as loaded.
    """

    path: Path
    original: ir.Model
    prepared: ir.Model
    given: Mapping[Site, Encoding]
    pipeline: Pipeline
    spans: Sequence[Span]
    again: Journey[Frontend]

    @property
    def inputs(self) -> list[InputInfo]:
        """What a sample must hold."""
        return inputs_of(self.prepared)

    @property
    def promised(self) -> dict[str, Moments]:
        """What BatchNormalizations that are folded say of values."""
        return folded_norms(self.original, self.prepared)

    def checked(self, same: SameFunction) -> Frontend:
        """The same without passes that changed what the model computes.

        Raises:
            PassError: one did, and the others cannot do without it.
        """
        return guarded(self.again, self, same)


def read(path: Path) -> ir.Model:
    """The model of a file, in a form that ONNX Runtime loads: see `ScalarScales`; weights that nothing reads, which it
    does not find again where it gets them apart from the graph, are left out.

    Raises:
        ModelError: the file is unreadable, invalid or unsafe.
    """
    model = ir.load(path)
    # no pipeline: it verifies graphs, and nothing in this one has to have a name yet
    ScalarScales().apply(model, PassRecord(ScalarScales.name))
    next(ir.editors(model)).drop_unused_constants()
    return model


def stated_inputs(original: ir.Model, shapes: Mapping[str, str]) -> list[InputInfo]:
    """The inputs that a model will have once it is prepared; arguments and errors as for `front`."""
    model = original.copy()
    Pipeline().graph(model, [NameEverything(), StripInputInitializers(), StateSizes(), OverrideShapes(_parsed(shapes))])
    return inputs_of(model)


def _parsed(shapes: Mapping[str, str]) -> tuple[tuple[str, tuple[int, ...]], ...]:
    return tuple(parse_shape(f"{name}={value}") for name, value in shapes.items())


def front(
    path: Path,
    shapes: Mapping[str, str] | None = None,
    dump: Path | None = None,
    lacks: frozenset[str] = frozenset(),
    original: ir.Model | None = None,
    *,
    rotate: bool = False,
    widen: bool = False,
) -> Frontend:
    """Loads and prepares a model.

    Args:
        path: an ONNX file.
        shapes: values of dynamic dimensions ("batch": "1"), or shapes of inputs ("input": "1x3x224x224").
        dump: folder for the text of the graph after each pass that changed it.
        lacks: operators that the target has no form for.
        original: what the file holds, where it is loaded already.
        rotate: rotate the stream of residuals, where there is one (`RotateResidual`).
        widen: compute in float32 what is stored in a shorter type (`WidenHalf`).

    Raises:
        ModelError: the file is unreadable, invalid or unsafe, or a weight is no number.
        UsageError: a shape fits nothing.
        OutputError: the dump folder cannot be written.
    """
    loaded = read(path) if original is None else original
    fixed = _parsed(shapes or {})

    def travel(without: Mapping[str, str], until: int | None = None) -> Frontend:
        instruments = () if dump is None or until is not None else (Dump.into(dump),)
        pipeline = Pipeline(instruments=instruments, without=without, until=until)
        model, adopt = loaded.copy(), AdoptQdq()
        prepare(pipeline, model, fixed, unroll=lacks >= LOOPS)
        check_weights(model, str(path))
        if widen and pipeline.graph(model, [WidenHalf()]):
            pipeline.fixpoint(model, simplify_passes())
        ready, done = model.copy(), len(pipeline.trace.records)
        start, spans = loaded, list[Span]()
        taken: list[GraphPass | Rule] = [QlinearToQdq(), StaticProducts(), EliminateDead(), adopt]
        if pipeline.graph(model, taken):
            start, spans = model.copy(), [Span(loaded, ready, 0, done)]
            done = len(pipeline.trace.records)
        pipeline.fixpoint(model, fusion_rules())
        if lacks - LOOPS:
            pipeline.graph(model, [ExpandOperators(lacks - LOOPS)])
        pipeline.fixpoint(model, simplify_passes())
        if rotate:
            pipeline.graph(model, [RotateResidual()])
        spans.append(Span(start, model, done if spans else 0, len(pipeline.trace.records)))
        given = carried(adopt.given, start, model)
        return Frontend(path, loaded, model, given, pipeline, spans, travel)

    return travel({})


@dataclass(frozen=True)
class Dump:
    """An instrument that writes the graph after each pass to `NN-pass.txt`."""

    folder: Path

    @staticmethod
    def into(folder: Path) -> Instrument:
        """The instrument for a folder, which is made; older dumps in it are removed.

        Raises:
            OutputError: it cannot be written.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for old in folder.glob("[0-9][0-9][0-9]-*.txt"):
                old.unlink()
        except OSError as error:
            raise OutputError(f"cannot be written: {os.strerror(error.errno or 0)}", where=str(folder)) from error
        return Dump(folder)

    def __call__(self, number: int, name: str, model: ir.Model) -> None:
        """Writes one file."""
        (self.folder / f"{number:03d}-{name}.txt").write_text(ir.to_text(model), encoding="utf-8")
