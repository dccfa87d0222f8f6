"""What a target can run, as a table: types only. The tables stand with the backends.

A rule says of some operators which operands must be quantized, and how, so that the target computes the node in
integers. Operands are numbered as in the ONNX standard; `REST` stands for all inputs not listed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from qcompiler import ir
from qcompiler.errors import UsageError
from qcompiler.quant import Precision, QSpec
from qcompiler.targets.roofline import Roofline

REST: Final = -1

Condition = Callable[[ir.Node], str | None]
"""Why a node does not qualify, in words with names; None where it does."""


@dataclass(frozen=True, slots=True)
class Activation:
    """A value computed at run time (or a constant in its place), stored as one of `options`, best first."""

    options: tuple[QSpec, ...]


@dataclass(frozen=True, slots=True)
class Weight:
    """A constant stored as one of `options`; a per-axis one runs along the output channels of the node."""

    options: tuple[QSpec, ...]


@dataclass(frozen=True, slots=True)
class Bias:
    """An optional constant stored as int32 with scale(x) * scale(w), `x` and `w` being the ports of those operands."""

    x: int = 0
    w: int = 1


@dataclass(frozen=True, slots=True)
class Same:
    """Stored with the encoding of input `port`: the node only moves values."""

    port: int = 0


@dataclass(frozen=True, slots=True)
class Scaled:
    """Input `port` times the positive constant at `factor`: its codes, read with another scale. Costs nothing."""

    port: int = 0
    factor: int = 1


@dataclass(frozen=True, slots=True)
class Float:
    """Stays float."""


Operand = Activation | Weight | Bias | Float
Output = Activation | Same | Scaled | Float


@dataclass(frozen=True)
class OpRule:
    """One line of a target table.

    Attributes:
        name: what the plan and the report cite.
        ops: operator types.
        inputs: what each input must be; inputs that are not listed stay float.
        output: what each output must be.
        role: `anchor` nodes are worth quantizing on their own; `follow` nodes only inside a quantized region.
        absorbs: operators that the target computes inside the node, so that the output is the one behind them.
        stored: the operands must be results that quantized nodes store; a value quantized for its readers will not do.
        conditions: what a node must satisfy besides.
        explicit: absorbed activations are computed, in front of the grid; of any kind. Else the grid of the result
            says what they do.
        shares: its operands take the encoding of its result, however much finer their own would be.
        computes: what a node of this rule is called in plan and report; int8 or w8 where it is empty.
        twin: of a rule for tables: the rule of a layer that multiplies with the same matrix, whatever its own would be.
        source: where this is documented or was measured.
    """

    name: str
    ops: tuple[str, ...]
    inputs: Mapping[int, Operand]
    output: Output
    source: str
    role: Literal["anchor", "follow"] = "anchor"
    absorbs: tuple[str, ...] = ()
    stored: bool = False
    explicit: bool = False
    shares: bool = False
    conditions: tuple[Condition, ...] = ()
    computes: Precision = ""
    twin: OpRule | None = None

    def operand(self, port: int) -> Operand:
        """What input `port` must be."""
        return self.inputs.get(port) or self.inputs.get(REST) or Float()

    @property
    def dynamic(self) -> bool:
        """Whether the runtime quantizes the activations from each input, so that nothing stores them quantized."""
        operands = [operand for operand in self.inputs.values() if isinstance(operand, Activation)]
        return any(spec.dynamic for operand in operands for spec in operand.options)

    @property
    def precision(self) -> Precision:
        """What a node of this rule is called in plan and report."""
        return self.computes or ("w8" if self.dynamic else "int8")


@dataclass(frozen=True)
class FloatRule:
    """Operators that stay float on this target, and why, in words for the report."""

    ops: tuple[str, ...]
    reason: str
    source: str


def nothing(_: ir.Model) -> Mapping[str, tuple[int, ...]]:
    """No values."""
    return {}


@dataclass(frozen=True)
class TargetSpec:
    """One target.

    Attributes:
        name: as given to `--target`.
        summary: one line for `qcompile targets`.
        variants: hardware names, the default first, each with a description.
        schemes: rule tables by precision; `float` needs none.
        float_rules: operators that stay float by decision, not for want of a rule.
        needs_data: precisions that need calibration data.
        opset: ONNX opset of the artifact.
        recasts: precisions that also change the float type of the rest of the graph, so that they are worth making
            where no value is quantized.
        lacks: operators that it has no form for, in integers or float; `ExpandOperators` writes out what it can.
        by_name: precisions that are tried only when asked for by name: they are for size, and lose accuracy.
        on_disk: precisions that a model larger than memory can be compiled to, weight by weight.
        concat_ratio: how much coarser the shared steps of a Concat may be than those of an operand.
        scans: precisions for which the extremes of every value are to be known, not of quantized ones alone.
        observes: values whose extremes its own passes want, by the axes whose indices are told apart.
        refuses: options of other targets that it does not have, and why.
        zero_points: codes may stand for zero that are not 0, where a model comes with such.
        roofline: how fast it is, for choices that cannot be timed; None where this machine's times are the target's.
        shapes: of inputs: `any`, `bounded` (fixed, or from the least to the most), or `fixed`.
        several_shapes: a model is compiled for several sets of fixed shapes that share its weights.
        channel_mul: a product of an activation and one factor a channel costs little beside the products that read it.
        int16_pairs: products of uint8 and int8 are added in pairs in int16, which saturates.
        beside: the precisions that may stand side by side in `mixed`, the first preferred, each with its rules there;
            the search chooses one of them, or float, for every group of nodes. Empty where there is no choice. A node
            that the first table itself gives another of them stays there: somebody wished it so.
        float_beside: it also computes float, so that groups may be left so.
        relief: for a precision asked for by name, the others that the search may give groups, wider for those that it
            harms, or narrower, each with its rules there.
        average_bits: of weights over the layers of a precision with relief, that the search is to keep within; 0 for
            none.
    """

    name: str
    summary: str
    variants: Mapping[str, str]
    schemes: Mapping[Precision, tuple[OpRule, ...]]
    float_rules: tuple[FloatRule, ...] = ()
    needs_data: frozenset[Precision] = field(default_factory=frozenset)
    recasts: frozenset[Precision] = field(default_factory=frozenset)
    lacks: frozenset[str] = field(default_factory=frozenset)
    opset: int = 21
    by_name: frozenset[Precision] = field(default_factory=frozenset)
    on_disk: frozenset[Precision] = field(default_factory=frozenset)
    concat_ratio: float = 2.0
    channel_mul: bool = False
    int16_pairs: bool = False
    scans: frozenset[Precision] = field(default_factory=frozenset)
    observes: Callable[[ir.Model], Mapping[str, tuple[int, ...]]] = nothing
    refuses: Mapping[str, str] = field(default_factory=dict)
    zero_points: bool = True
    roofline: Roofline | None = None
    shapes: Literal["any", "bounded", "fixed"] = "any"
    several_shapes: bool = False
    beside: Mapping[Precision, tuple[OpRule, ...]] = field(default_factory=dict)
    float_beside: bool = True
    relief: Mapping[Precision, Mapping[Precision, tuple[OpRule, ...]]] = field(default_factory=dict)
    average_bits: float = 0.0

    @property
    def sharing(self) -> frozenset[str]:
        """Names of the rules whose operands share the encoding of the result."""
        tables = [*self.schemes.values(), *self.beside.values()]
        return frozenset(rule.name for table in tables for rule in table if rule.shares)

    @property
    def precisions(self) -> tuple[str, ...]:
        """Names accepted by `--precision`."""
        return ("auto", *self.schemes, "float")

    def rules(self, precision: Precision, assigned: Precision | None = None) -> tuple[OpRule, ...]:
        """The rules of a precision, or of another one that a node was assigned."""
        if assigned is None or assigned == precision:
            return self.schemes[precision]
        tables = (self.relief.get(precision, {}), self.beside, self.schemes)
        return next(table[assigned] for table in tables if assigned in table)

    def variant(self, name: str) -> str:
        """The variant of that name, the default where it is empty.

        Raises:
            UsageError: an unknown variant; the message lists the known ones.
        """
        if not name:
            return next(iter(self.variants))
        if name not in self.variants:
            raise UsageError(f"target {self.name!r} has no variant {name!r}", hint=f"known: {', '.join(self.variants)}")
        return name

    def float_reason(self, op: str) -> str | None:
        """Why `op` stays float by decision, or None."""
        return next((rule.reason for rule in self.float_rules if op in rule.ops), None)


def channel_axis(node: ir.Node) -> int:
    """The axis of the weight (input 1; of Gather the table, input 0) that runs along the output channels.

    For ConvTranspose with groups the channels of one group only; a target that needs more must refuse it. For LSTM the
    rows of W and of R alike; they are those of every direction.
    """
    match node.op:
        case "Conv":
            return 0
        case "ConvTranspose":
            return 1
        case "Gemm":
            return 0 if node.attrs.get("transB", 0) else 1
        case "LSTM":
            return 1
        case "Gather":
            return 0
        case _:
            return len(node.inputs[1].shape) - 1


def reduced_axis(node: ir.Node) -> int:
    """The axis of the weight that is summed over; for Gather the one along which a row of its table runs."""
    match node.op:
        case "ConvTranspose":
            return 0
        case "Gemm" | "Conv" | "Gather":
            return 1 - channel_axis(node) if node.op == "Gemm" else 1
        case "LSTM":
            return 2
        case _:
            return max(len(node.inputs[1].shape) - 2, 0)
