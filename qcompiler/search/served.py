"""A model that goes to where it is run: as a payload, made into a session there once.

The session lives as long as the object that it was made for, which is as long as somebody holds the model's handle.
"""

from __future__ import annotations

import threading
import weakref
from dataclasses import dataclass
from typing import Any

from qcompiler import ir
from qcompiler.analysis import Payload, Runner, SessionConfig


@dataclass(eq=False)
class Served:
    """A model and how it is run.

    Attributes:
        model: the graph; elsewhere its payload.
        config: session settings.
        digest: of content, weights and settings.
    """

    model: ir.Model | Payload
    config: SessionConfig
    digest: str

    @staticmethod
    def of(model: ir.Model, config: SessionConfig) -> Served:
        """A model as it is now."""
        return Served(model, config, f"{Payload.of(model).digest} {config}")

    @property
    def payload(self) -> Payload:
        """Content and weights."""
        return self.model if isinstance(self.model, Payload) else Payload.of(self.model)

    def __getstate__(self) -> dict[str, Any]:
        return {"model": self.payload, "config": self.config, "digest": self.digest}


_RUNNERS: weakref.WeakKeyDictionary[Served, Runner] = weakref.WeakKeyDictionary()
_LOCK = threading.Lock()


def ready(served: Served) -> Runner:
    """The session of a model; errors as for `Runner`."""
    with _LOCK:
        found = _RUNNERS.get(served)
        if found is None:
            found = _RUNNERS[served] = Runner(served.model, served.config)
    return found
