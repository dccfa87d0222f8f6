"""Options that several commands share, and what they become."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from qcompiler.errors import UsageError

if TYPE_CHECKING:
    from qcompiler.recipe import Recipe

F = TypeVar("F", bound=Callable[..., Any])
FILE = click.Path(path_type=Path)

model = click.argument("model", type=FILE)
data = click.option("--data", metavar="D", help="Calibration samples: .npz, folder, dataset .toml or module:function.")
required_data = click.option(
    "--data", metavar="D", required=True, help="Samples; the forms are those of qcompile --data."
)
recipe = click.option("--recipe", type=FILE, metavar="FILE", help="Wishes in a TOML file; options override it.")
samples = click.option("--samples", type=int, metavar="N", help="Use at most N samples of --data.")
shape = click.option(
    "--shape", multiple=True, metavar="NAME=VALUE", help="Fix a dynamic dimension (batch=1) or an input (x=1x3x32x32)."
)
threads = click.option("--threads", type=int, metavar="N", help="Threads of the runtime.  [default: 1]")
workers = click.option(
    "--workers", type=int, metavar="N", help="Calibrate and evaluate in N processes.  [default: 0, in this one]"
)
cluster = click.option("--cluster", metavar="tcp://HOST:PORT", help="Calibrate and evaluate on this Dask cluster.")
journal = click.option(
    "--journal", metavar="DIR",
    help="Keep what was measured in DIR, to go on after an interruption; none keeps nothing.  [default: the cache]",
)  # fmt: skip
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON to stdout and nothing else.")
quiet = click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")


def of_target(*names: str, **attributes: Any) -> Callable[[F], F]:
    """An option that some targets take; it goes into the recipe's `options` (see `apart`)."""
    return click.option(*names, **attributes, cls=TargetOption)


class TargetOption(click.Option):
    """An option that some targets take."""


def apart(wishes: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The wishes of every target, and those that were given for some."""
    command = click.get_current_context().command
    some = {param.name for param in command.params if isinstance(param, TargetOption)}
    given = {k: v for k, v in wishes.items() if k in some and v is not None and v is not False and v != ()}
    return {key: value for key, value in wishes.items() if key not in some}, given


def make_recipe(file: Path | None, options: Mapping[str, Any]) -> Recipe:
    """The recipe of a file, changed by options; those that were not given (None, empty) change nothing.

    Raises:
        UsageError: naming the option, or the file and its key.
    """
    from qcompiler.recipe import Recipe

    base = Recipe() if file is None else _from_file(file)
    try:
        return base.updated({key: value for key, value in options.items() if value not in (None, (), [])})
    except UsageError as error:
        plural = error.where in ("shapes", "bench_shapes", "algorithms")
        flag = "--" + error.where.removesuffix("s" if plural else "").replace("_", "-")
        raise UsageError(error.what, where=flag, hint=error.hint) from error


def _from_file(file: Path) -> Recipe:
    from qcompiler.recipe import Recipe

    try:
        return Recipe.from_toml(file)
    except UsageError as error:
        where = error.where if error.where == str(file) else ": ".join(filter(None, [str(file), error.where]))
        raise UsageError(error.what, where=where, hint=error.hint) from error
