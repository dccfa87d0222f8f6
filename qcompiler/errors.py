"""Every error that the compiler raises on purpose.

    QCompilerError                 exit status
    ├── UserError                  2   the input or the request cannot be served as given
    │   ├── UsageError             2   an option, a recipe, a target name, a pattern that matches nothing
    │   ├── ModelError             2   the ONNX file: unreadable, invalid, unsafe
    │   ├── DataError              2   calibration or evaluation data
    │   ├── OutputError            2   the place to write to
    │   ├── WorkerError            2   the processes or the cluster that the work is given to
    │   └── MissingExtraError      2   an optional package that this request needs
    ├── ContractError              3   the accuracy contract or the conformance gate failed
    └── InternalError              1   a fault of the compiler: please report it
        ├── VerifyError            1   a graph broke an invariant after a pass
        └── PassError              1   a pass broke its declaration

A message answers three questions: what is wrong, where (file, node, tensor), and what to do now.
"""

from __future__ import annotations

from typing import Any, ClassVar


class QCompilerError(Exception):
    """Root of the tree.

    Args:
        what: one sentence that says what is wrong.
        where: the file, node, tensor or option concerned, by name.
        hint: what the reader can do now.
    """

    exit_status: ClassVar[int] = 1

    def __init__(self, what: str, *, where: str = "", hint: str = "") -> None:
        self.what, self.where, self.hint = what, where, hint
        super().__init__(what, where, hint)

    def __reduce__(self) -> tuple[Any, ...]:
        """So that an error of a worker process arrives as it was raised."""
        return _again, (type(self), self.what, self.where, self.hint)

    def __str__(self) -> str:
        """One line: `where: what (hint)`."""
        text = f"{self.where}: {self.what}" if self.where else self.what
        return " ".join((f"{text} ({self.hint})" if self.hint else text).split())


def _again(kind: type[QCompilerError], what: str, where: str, hint: str) -> QCompilerError:
    return kind(what, where=where, hint=hint)


class UserError(QCompilerError):
    """The input or the request cannot be served as given."""

    exit_status = 2


class UsageError(UserError):
    """An option, a recipe, a target name, or a pattern that matches nothing."""


class ModelError(UserError):
    """The ONNX file is unreadable, invalid or unsafe."""


class DataError(UserError):
    """Calibration or evaluation data does not fit the model, or holds NaN or infinity."""


class OutputError(UserError):
    """The output folder cannot be written."""


class WorkerError(UserError):
    """The worker processes or the cluster cannot do the work."""


class MissingExtraError(UserError):
    """The request needs an optional package that is not installed."""


class ContractError(QCompilerError):
    """The accuracy contract or the conformance gate failed; the best result was kept."""

    exit_status = 3


class InternalError(QCompilerError):
    """A fault of the compiler itself."""


class VerifyError(InternalError):
    """A graph broke an invariant."""


class PassError(InternalError):
    """A pass broke its declaration."""
