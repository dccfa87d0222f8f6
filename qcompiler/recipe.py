"""What the user wishes, checked whole before any work starts.

A recipe comes from a TOML file, from options of the command line, or from keyword arguments; later ones win:

    precision = "auto"          # auto, int8, w8, float
    method = "auto"             # auto, minmax, percentile, entropy, mse
    keep_float = ["head.*"]     # nodes or tensors, patterns as in the shell
    max_drop = "1%"            # 1pt, 0.01, "1% relative", "none"
    samples = 256
    preset = "balanced"         # fast, balanced, best

    [algorithms]                # single ones on or off, beside the preset
    round-kernels = false

    [methods]                   # range method by tensor
    "*attn*" = "percentile"

    [shapes]                    # dynamic dimensions or whole inputs; min:opt:max bounds an input
    batch = "1"

    [options]                   # of the target: qcompile targets NAME
    optimized = true
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from qcompiler.errors import UsageError
from qcompiler.search.algorithms import Algorithms, chosen
from qcompiler.search.deadline import seconds_of
from qcompiler.search.limit import UNSTATED, Limit

ALSO = ";"
"""Between the values of a shape that is given more than once."""
WEIGHT_METHODS = ("auto", "rtn", "mse", "hqq", "gptq", "awq")
OBJECTIVES = ("latency", "size", "bits")
METHODS = ("auto", "minmax", "percentile", "entropy", "mse")


@dataclass(frozen=True)
class Recipe:
    """The whole request besides model, target and data.

    Attributes:
        precision: a precision of the target, or `auto` for the best one measured.
        method: range method of activations; `auto` tries several and keeps the one that leaves the least error.
        methods: range method by tensor pattern.
        weight_method: how weights in blocks are rounded: rtn, mse and hqq need no data; gptq and awq do; `auto` is gptq
            on top of awq with data, hqq without.
        preset: which accuracy algorithms to use: `fast`, `balanced` or `best`.
        algorithms: single algorithms on or off, beside the preset, by name.
        keep_float: patterns of nodes or tensors that stay float.
        max_drop: largest accepted loss of the metric, as `search.limit` has it; a text or a number will do. Where it is
            left out, 1 % steers the choice, and no compile fails by it.
        confidence: of each bound of the loss.
        metric: a name of `analysis.ask`, or `package.module:callable`; else what labels and outputs suggest.
        samples: how many calibration samples to use at most; None takes all.
        shapes: values of dynamic dimensions, or whole shapes of inputs; one with colons bounds an input that stays
            dynamic, for targets that take bounds; several with ";" between are compiled side by side, for targets that
            take several.
        sqnr_floor: a result with an output whose signal-to-noise ratio is under this many dB is broken.
        bench_seconds: time to spend on measuring latency, about; 0 measures nothing and trusts the table.
        bench_shapes: shapes of the inputs that latency is measured on, each "batch=8,seq=128" or "x=1x128"; none stands
            for the first sample as it is. The geometric mean of the speed-ups decides.
        memory_mib: memory that observed values may take at once while calibrating.
        threads: threads of the runtime, for measuring and for calibrating.
        workers: processes of this machine that calibrate and evaluate; 0 does it in the compiler's own.
        cluster: address of the scheduler of a Dask cluster that does it instead, "tcp://host:port".
        journal: folder that keeps what was measured, so that a compile which was stopped goes on where it was; "none"
            keeps nothing. The cache of this user and machine, where it is left out.
        time_budget: seconds after which nothing new is tried, or a text such as "10m"; the best so far is shipped.
        ranges: a calibration cache of TensorRT (text), whose ranges take the place of calibration data.
        latency: file of times by node from a device, in place of those of this machine (`search.costs.from_file`).
        optimize: what is least among plans that keep the contract: `latency`, `size` or `bits` (`search.objectives`).
        pareto: write the Pareto front of what was evaluated, and its plans.
        on_disk: weights stay on disk and models are run piece by piece, for those larger than memory; those over 2 GiB
            do so in any case.
        options: of the target, by name; which ones there are is the target's to say.
    """

    precision: str = "auto"
    method: str = "auto"
    methods: Mapping[str, str] = field(default_factory=dict)
    weight_method: str = "auto"
    preset: str = "balanced"
    algorithms: Mapping[str, bool] = field(default_factory=dict)
    keep_float: tuple[str, ...] = ()
    max_drop: Limit = UNSTATED
    confidence: float = 0.95
    metric: str | None = None
    samples: int | None = None
    shapes: Mapping[str, str] = field(default_factory=dict)
    sqnr_floor: float = 5.0
    bench_seconds: float = 6.0
    bench_shapes: tuple[str, ...] = ()
    memory_mib: int = 512
    threads: int = 1
    workers: int = 0
    cluster: str | None = None
    journal: str | None = None
    time_budget: float | None = None
    ranges: str | None = None
    latency: str | None = None
    optimize: str = "latency"
    pareto: bool = False
    on_disk: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def chosen(self) -> Algorithms:
        """The accuracy algorithms to use."""
        return chosen(self.preset, self.algorithms)

    @property
    def fixed_shapes(self) -> dict[str, str]:
        """The shapes that are not bounds, the first of each."""
        return {name: value.split(ALSO)[0] for name, value in self.shapes.items() if ":" not in value}

    @property
    def other_shapes(self) -> list[dict[str, str]]:
        """The further sets of shapes, where some were given more than once; a name given less often keeps its last."""
        given = {name: value.split(ALSO) for name, value in self.shapes.items() if ":" not in value}
        sets = max(map(len, given.values()), default=1)
        return [{name: values[min(i, len(values) - 1)] for name, values in given.items()} for i in range(1, sets)]

    @property
    def shape_ranges(self) -> dict[str, str]:
        """The shapes that are bounds."""
        return {name: value for name, value in self.shapes.items() if ":" in value}

    def __post_init__(self) -> None:
        object.__setattr__(self, "max_drop", Limit.of(self.max_drop))
        chosen(self.preset, self.algorithms)
        for option, method in (("method", self.method), *((f"methods.{k}", v) for k, v in self.methods.items())):
            if method not in METHODS:
                raise UsageError(f"unknown range method {method!r}", where=option, hint=f"known: {', '.join(METHODS)}")
        if self.weight_method not in WEIGHT_METHODS:
            known = ", ".join(WEIGHT_METHODS)
            raise UsageError(
                f"unknown weight method {self.weight_method!r}", where="weight_method", hint=f"known: {known}"
            )
        if self.optimize not in OBJECTIVES:
            known = ", ".join(OBJECTIVES)
            raise UsageError(f"unknown objective {self.optimize!r}", where="optimize", hint=f"known: {known}")
        for option, low, high in (
            ("confidence", 0.5, 0.9999), ("samples", 1, 2**40), ("bench_seconds", 0, 3600), ("memory_mib", 1, 2**20),
            ("threads", 1, 1024), ("workers", 0, 1024), ("time_budget", 0, 10**7),
        ):  # fmt: skip
            value = getattr(self, option)
            if value is not None and not low <= value <= high:
                raise UsageError(f"{value!r} is out of range", where=option, hint=f"from {low} to {high}")

    def updated(self, changes: Mapping[str, Any]) -> Recipe:
        """This recipe with other values, given as a TOML file or a command line gives them; None changes nothing.

        Raises:
            UsageError: an unknown key or a value of the wrong type.
        """
        known = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        given: dict[str, Any] = {}
        for key, value in changes.items():
            if key not in known:
                raise UsageError(f"unknown key {key!r}", where="recipe", hint=f"known: {', '.join(known)}")
            if value is not None:
                given[key] = coerce(key, value)
        return replace(self, **given)

    @staticmethod
    def from_toml(path: Path) -> Recipe:
        """The recipe of a file.

        Raises:
            UsageError: no such file, not TOML, an unknown key, a value of the wrong type.
        """
        try:
            text = path.read_text(encoding="utf-8")
            return Recipe().updated(tomllib.loads(text))
        except OSError as error:
            raise UsageError(f"cannot be read: {error.strerror}", where=str(path)) from error
        except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise UsageError(f"is not TOML: {error}", where=str(path)) from error


def coerce(key: str, value: Any) -> Any:
    """`value` in the type of the recipe's field `key`."""
    wanted: dict[str, type | tuple[type, ...]] = {
        "precision": str, "method": str, "methods": dict, "preset": str,
        "algorithms": (dict, list, tuple), "keep_float": (list, tuple, str), "metric": str,
        "bench_shapes": (list, tuple, str), "weight_method": str, "ranges": str,
        "samples": int, "shapes": (dict, list, tuple), "max_drop": (str, int, float, Limit), "memory_mib": int,
        "threads": int, "workers": int, "cluster": str, "journal": str,
        "latency": str, "optimize": str, "pareto": bool, "on_disk": bool, "time_budget": (str, int, float),
        "options": dict,
    }  # fmt: skip
    kind = wanted.get(key, (int, float))
    fits = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
    if not fits:
        raise UsageError(f"{value!r} is not of the right kind", where=key)
    match key:
        case "time_budget":
            return seconds_of(value)
        case "max_drop":
            return Limit.of(value)
        case "keep_float" | "bench_shapes":
            return (value,) if isinstance(value, str) else tuple(map(str, value))
        case "shapes":
            return shapes(value)
        case "algorithms":
            return switches(value)
        case "methods":
            return {str(k): str(v) for k, v in value.items()}
        case _:
            return value


def shapes(value: Any) -> dict[str, str]:
    """`{"batch": 1}` or `["batch=1", "input=1x3x224x224"]` as a mapping of text.

    Raises:
        UsageError: an entry without "=".
    """
    if isinstance(value, Mapping):
        return {str(k): str(v) for k, v in value.items()}
    wrong = [entry for entry in value if "=" not in str(entry)]
    if wrong:
        raise UsageError(f"{wrong[0]!r} is not NAME=VALUE", where="shape", hint="for instance batch=1")
    found: dict[str, str] = {}
    for name, text in (str(entry).split("=", 1) for entry in value):
        found[name] = f"{found[name]}{ALSO}{text}" if name in found else text
    return found


ON = {"on": True, "true": True, "off": False, "false": False}


def switches(value: Any) -> dict[str, bool]:
    """`{"round-kernels": False}` or `["round-kernels=off"]` as a mapping.

    Raises:
        UsageError: an entry that is neither on nor off.
    """
    entries = value.items() if isinstance(value, Mapping) else (str(entry).partition("=")[::2] for entry in value)
    found = {str(name): state if isinstance(state, bool) else ON.get(str(state).lower()) for name, state in entries}
    for name, state in found.items():
        if state is None:
            raise UsageError(
                f"{name!r} is neither on nor off", where="algorithm", hint=f"write {name}=on or {name}=off"
            )
    return {name: bool(state) for name, state in found.items()}
