"""Reads an output folder back: report.json, and plan.json where there is one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from qcompiler.errors import DataError
from qcompiler.quant import QuantPlan
from qcompiler.quant.plan_file import plan_from_json
from qcompiler.report.folder import REPORT
from qcompiler.report.record import Report

PLAN = "plan.json"
_T = TypeVar("_T")


@dataclass(frozen=True)
class Output:
    """What a compile left behind."""

    folder: Path
    report: Report
    plan: QuantPlan


def read_output(path: Path) -> Output:
    """The record of an output folder.

    Args:
        path: the folder, or its report.json.

    Raises:
        DataError: there is none, or it is damaged.
    """
    folder = path.parent if path.name == REPORT else path
    if not (folder / REPORT).is_file():
        raise DataError(f"holds no {REPORT}", where=str(path), hint="give a folder that qcompile wrote")
    report = _parsed(folder / REPORT, Report.from_json)
    plan = _parsed(folder / PLAN, plan_from_json) if (folder / PLAN).is_file() else QuantPlan()
    return Output(folder, report, plan)


def _parsed(path: Path, parse: Callable[[str], _T]) -> _T:
    try:
        return parse(path.read_text(encoding="utf-8"))
    except DataError as error:
        raise DataError(error.what, where=str(path), hint=error.hint) from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot be read: {error}", where=str(path)) from error
