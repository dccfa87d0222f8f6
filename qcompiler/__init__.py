"""qcompiler: compiles float ONNX models to quantized ones that the target's own runtime accepts.

    import qcompiler

    result = qcompiler.compile("model.onnx", "onnxruntime", "calib.npz", output="out")
    print(qcompiler.summary(result.report))

Names are loaded when they are first used, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from qcompiler._version import __version__

if TYPE_CHECKING:
    from qcompiler.analysis.session import session as session
    from qcompiler.compiler import Result as Result
    from qcompiler.compiler import calibrate as calibrate
    from qcompiler.compiler import compile as compile
    from qcompiler.errors import ContractError as ContractError
    from qcompiler.errors import QCompilerError as QCompilerError
    from qcompiler.errors import UserError as UserError
    from qcompiler.ir import load as load
    from qcompiler.ir import save as save
    from qcompiler.recipe import Recipe as Recipe
    from qcompiler.report import Report as Report
    from qcompiler.report.text import summary as summary

_HOMES = {
    "ContractError": "qcompiler.errors",
    "QCompilerError": "qcompiler.errors",
    "Recipe": "qcompiler.recipe",
    "Report": "qcompiler.report",
    "Result": "qcompiler.compiler",
    "UserError": "qcompiler.errors",
    "calibrate": "qcompiler.compiler",
    "compile": "qcompiler.compiler",
    "load": "qcompiler.ir",
    "save": "qcompiler.ir",
    "session": "qcompiler.analysis.session",
    "summary": "qcompiler.report.text",
}
__all__ = [
    "ContractError",
    "QCompilerError",
    "Recipe",
    "Report",
    "Result",
    "UserError",
    "__version__",
    "calibrate",
    "compile",
    "load",
    "save",
    "session",
    "summary",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
