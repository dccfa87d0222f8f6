"""The command `qcompile`: a group whose default command compiles, and which turns every error into one line.

qcompile MODEL --target T ...     compile, options before or behind MODEL
qcompile COMMAND ...              another command; a file of that name is given as ./COMMAND
"""

from __future__ import annotations

import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from qcompiler.cli.show import fail
from qcompiler.errors import QCompilerError

INTERNAL, USAGE, INTERRUPTED, TERMINATED = 1, 2, 130, 143
OWN_OPTIONS = ("--help", "-h", "--version")


class QcompileGroup(click.Group):
    """See the module's docstring."""

    default = "compile"

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Puts the default command in front where no command is named."""
        if args and args[0] not in self.commands and args[0] not in OWN_OPTIONS:
            args = [self.default, *args]
        return super().parse_args(ctx, args)

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Both forms."""
        formatter.write_usage("qcompile", "MODEL --target NAME[:VARIANT] [--data D] [-o DIR] ...")
        formatter.write_usage("qcompile", "COMMAND ...", prefix="       ")

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The options of the default command, then the other commands."""
        command = self.commands[self.default]
        with click.Context(command, info_name=self.default, parent=ctx) as inner:
            records = [p.get_help_record(inner) for p in command.get_params(inner) if isinstance(p, click.Option)]
        with formatter.section("Options"):
            formatter.write_dl([*filter(None, records), ("--version", "Show the version.")])
        with formatter.section("Commands"):
            others = [(name, entry) for name, entry in self.commands.items() if name != self.default]
            formatter.write_dl([(name, entry.get_short_help_str(80)) for name, entry in others])

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Runs a command line and exits with the status that the help states."""
        if not standalone_mode:
            return super().main(args, prog_name or "qcompile", complete_var, standalone_mode=False, **extra)
        # only the main thread may say what a signal does
        in_main = threading.current_thread() is threading.main_thread()
        previous = signal.signal(signal.SIGTERM, _terminate) if in_main else None
        try:
            status = super().main(args, prog_name or "qcompile", complete_var, standalone_mode=False, **extra)
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.ctx.get_help() if error.ctx else "")
            status = USAGE
        except click.ClickException as error:
            status = fail(USAGE, usage_line(error))
        except QCompilerError as error:
            if error.exit_status == INTERNAL:
                status = internal()
            else:
                status = fail(error.exit_status, str(error))
        except click.Abort:
            status = fail(INTERRUPTED, "interrupted; nothing unfinished is left", word="")
        except MemoryError:
            status = fail(INTERNAL, "out of memory (fewer --samples do not help, a smaller --shape or memory_mib does)")
        except Exception:  # anything else is a fault of the compiler
            status = internal()
        finally:
            if in_main:
                signal.signal(signal.SIGTERM, previous)
        sys.exit(int(status or 0))

    def invoke(self, ctx: click.Context) -> Any:
        """As click does, but an interrupt prints no empty line where there is no terminal."""
        try:
            return super().invoke(ctx)
        except Terminated:
            return fail(TERMINATED, "terminated; nothing unfinished is left", word="")
        except KeyboardInterrupt as error:
            if sys.stderr.isatty():
                click.echo(err=True)  # behind the terminal's ^C
            raise click.Abort() from error


def usage_line(error: click.ClickException) -> str:
    """What click found, as `WHERE: WHAT`."""
    if isinstance(error, click.MissingParameter) and error.param is not None:
        return f"{_name(error.param)} is missing (qcompile {_command(error)}--help)"
    if isinstance(error, click.BadParameter) and error.param is not None:
        return f"{_name(error.param)}: {error.message.rstrip('.')}"
    text = " ".join(error.format_message().split()).rstrip(".")
    return f"{text} (qcompile {_command(error)}--help)" if isinstance(error, click.UsageError) else text


def _name(param: click.Parameter) -> str:
    options = [name for name in param.opts if name.startswith("--")] or list(param.opts)
    return options[0] if isinstance(param, click.Option) else param.human_readable_name


def _command(error: click.UsageError) -> str:
    name = error.ctx.info_name if error.ctx is not None and error.ctx.parent is not None else None
    return f"{name} " if name and name != QcompileGroup.default else ""


def internal() -> int:
    """A traceback, and what to do with it."""
    traceback.print_exc()
    return fail(INTERNAL, "this is a fault of qcompile: please report it with the lines above and qcompile --version")


class Terminated(KeyboardInterrupt):
    """SIGTERM, as an exception that nothing but an interrupt is mistaken for, so that unfinished output is removed."""


def _terminate(_number: int, _frame: Any) -> NoReturn:
    raise Terminated
