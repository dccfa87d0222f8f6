"""Names that a package may have: letters, digits and "_", no digit first, each once.

What had to change is kept in the package's metadata, as `onnx.name.CLEAN` -> original.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

KEY = "onnx.name."
STATE, CACHE_LENGTH, IMAGE = "onnx.state.", "onnx.cache_length", "onnx.image."
"""Entries of the metadata: what a state stands for, the input that says how much of those that grow is taken, and what
makes the values that the model reads of the pixels of an image: scale and biases."""
RESERVED = frozenset(
    {
        "any", "bool", "program", "func", "tensor", "list", "dict", "tuple", "true", "false", "string", "state", "bf16",
        "fp16", "fp32", "fp64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
    }
)  # fmt: skip
"""Words of MIL's text; coremltools renames values that have them."""


@dataclass(eq=False)
class Names:
    """Clean names for original ones, given out in the order asked for.

    Attributes:
        clean: clean name by original one.
    """

    clean: dict[str, str] = field(default_factory=dict)
    _taken: set[str] = field(default_factory=set)

    def __call__(self, original: str) -> str:
        """The clean name of `original`; the same for every call."""
        if original not in self.clean:
            self.clean[original] = self.fresh(original)
        return self.clean[original]

    def fresh(self, hint: str) -> str:
        """A clean name that nothing has yet."""
        base = re.sub(r"[^A-Za-z0-9_]", "_", hint) or "value"
        base = base if not base[0].isdigit() else f"var_{base}"
        name, number = base, 0
        while name in self._taken or name in RESERVED:
            number += 1
            name = f"{base}_{number}"
        self._taken.add(name)
        return name

    def changed(self, originals: list[str]) -> dict[str, str]:
        """Metadata entries for those of `originals` whose names had to change."""
        return {KEY + self(name): name for name in originals if self(name) != name}
