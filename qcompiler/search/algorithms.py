"""Which accuracy algorithms a compile uses: presets, and the choice of single ones.

    fast        what costs no run of the model beyond calibration
    balanced    what measurably helps and costs at most a few times the plain calibration; the default
    best        everything that measurably helps on some model; what does not help a model is found out and left

`docs/accuracy-algorithms.md` says what each is and holds the measurements behind the presets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

from qcompiler.errors import UsageError


@dataclass(frozen=True)
class Algorithms:
    """A choice. The field names, with dashes, are those of the recipe.

    Attributes:
        equalize_depthwise: channels in front of depthwise convolutions are stretched to one range.
        equalize_layers: channels between layers are stretched where their readers gain.
        smooth_quant: channels between matrix products are stretched by the error that is measured.
        round_kernels: weights of a kernel are rounded so that their sum stays.
        correct_bias: biases take back the mean error of rounded weights.
        clip_weights: ranges of weights are clipped where that makes their squared error less.
        adaround: weights are rounded so that the results of their layers are least off.
        clip_activations: each activation gets the range method that leaves the outputs least off.
        rotate: the stream of residuals of a transformer is rotated, so that no channel is far larger than others.
        reconstruct: weights are rounded so that the results of their blocks are least off, given what came before.
    """

    equalize_depthwise: bool = True
    equalize_layers: bool = False
    smooth_quant: bool = False
    round_kernels: bool = True
    correct_bias: bool = True
    clip_weights: bool = False
    adaround: bool = False
    clip_activations: bool = False
    rotate: bool = False
    reconstruct: bool = False

    @property
    def sure(self) -> Algorithms:
        """Those that are used without being tried on samples first."""
        tried = ("equalize_layers", "smooth_quant", "clip_weights", "adaround", "clip_activations", "reconstruct")
        return replace(self, **dict.fromkeys(tried, False))

    def updated(self, changes: Mapping[str, bool]) -> Algorithms:
        """This choice with some algorithms switched.

        Raises:
            UsageError: there is no such algorithm.
        """
        known = names()
        for name in changes:
            if name.replace("_", "-") not in known:
                raise UsageError(
                    f"there is no algorithm {name!r}", where="algorithms", hint=f"known: {', '.join(known)}"
                )
        return replace(self, **{name.replace("-", "_"): bool(on) for name, on in changes.items()})


def names() -> tuple[str, ...]:
    """Every algorithm, as the recipe has it."""
    return tuple(entry.name.replace("_", "-") for entry in fields(Algorithms))


PRESETS: Mapping[str, Algorithms] = {
    "fast": Algorithms(),
    "balanced": Algorithms(smooth_quant=True, adaround=True),
    "best": Algorithms(
        equalize_layers=True,
        smooth_quant=True,
        clip_weights=True,
        adaround=True,
        clip_activations=True,
        reconstruct=True,
    ),
}


def chosen(preset: str, changes: Mapping[str, bool]) -> Algorithms:
    """The algorithms of a preset, some of them switched.

    Raises:
        UsageError: there is no such preset or algorithm.
    """
    if preset not in PRESETS:
        raise UsageError(f"there is no preset {preset!r}", where="preset", hint=f"known: {', '.join(PRESETS)}")
    return PRESETS[preset].updated(changes)
