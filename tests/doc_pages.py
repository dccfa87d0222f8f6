"""The pages of the documentation: what is in them, and a run of everything that they show.

    python -m tests.doc_pages --renew [PAGE ...]     run pages in a scratch folder and write the output of each command
                                                     back into them; on a quiet machine, since it is timed
    python -m tests.doc_pages --check PAGE           what tests/test_docs.py runs, one process a page, in an empty one

How a page is written:

    ```python     runs, in order; the snippets of a page share their names, unless it says that each stands alone
    ```toml       is written to the file that the comment in its first line names, if there is one
    ```console    "$ command", then its output; "..." stands for lines left out; "$ echo $?" states the exit status of
                  the command before, else it is 0. A block without "$" holds commands only
    ```sh         commands for a person; those that begin with qcompile run

Everything runs in one folder, where `models` is that of the repository, and `model.onnx`, `calib.npz` and `test.npz`
are digits_cnn with its data.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
ALONE = "Each snippet below stands alone"
NO_TIMING = ("--bench-seconds", "0")


@dataclass(frozen=True)
class Block:
    """A fenced block; `line` is that of its first line inside, counted from 1."""

    language: str
    text: str
    line: int


@dataclass(frozen=True)
class Command:
    """A command with what the page says of it: the lines of its output and its exit status."""

    text: str
    output: tuple[str, ...]
    status: int
    line: int

    @property
    def words(self) -> list[str]:
        """The arguments of `qcompile`, without what pipes and redirections do to its output."""
        found = shlex.split(self.text)
        ends = [found.index(sign) for sign in ("|", ">", "2>&1") if sign in found]
        return found[1 : min(ends, default=len(found))]


def blocks(page: Path) -> Iterator[Block]:
    """Every fenced block of a page."""
    language, start, inside = "", 0, list[str]()
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if not line.startswith("```"):
            inside.append(line)
        elif start:
            yield Block(language, "\n".join(inside) + "\n", start)
            start = 0
        else:
            language, start, inside = line[3:].strip(), number + 1, []
    assert not start, f"{page.name}:{start - 1}: a block that does not end"


def commands(block: Block) -> list[Command]:
    """The commands of a console or sh block."""
    prompted = any(line.startswith("$ ") for line in block.text.splitlines())
    found: list[Command] = []
    text, begun, output = "", 0, list[str]()

    def finish() -> None:
        if text == "echo $?":
            last = found.pop()
            found.append(Command(last.text, last.output, int(output[0]), last.line))
        elif text:
            found.append(Command(text, tuple(output), 0, begun))

    for number, line in enumerate(block.text.splitlines(), block.line):
        if text.endswith("\\"):
            text = f"{text[:-1].rstrip()} {line.strip()}"
        elif line.startswith("$ ") or (not prompted and line.strip() and not line.startswith("#")):
            finish()
            text, begun, output = line.removeprefix("$ ").strip(), number, []
        elif prompted:
            output.append(line)
    finish()
    return found


def stage(folder: Path) -> None:
    """Links that pages rely on."""
    cnn = ROOT / "models" / "digits_cnn"
    links = {"models": ROOT / "models", "model.onnx": cnn / "model.onnx"}
    links |= {"calib.npz": cnn / "calibration.npz", "test.npz": cnn / "evaluation.npz"}
    for name, target in links.items():
        (folder / name).symlink_to(target)


def write_file(block: Block) -> None:
    """A toml block under a comment with a file name becomes that file."""
    name = re.fullmatch(r"# ([\w.-]+\.toml)", block.text.splitlines()[0])
    if name is not None:
        Path(name[1]).write_text(block.text, encoding="utf-8")


# ---- check
def check(page: Path) -> int:
    """Runs a page in the present folder; raises where it does not do what it says. Gives how much was run."""
    alone = ALONE in page.read_text(encoding="utf-8")
    names: dict[str, Any] = {"__name__": "__main__"}
    sys.path.insert(0, "")
    stage(Path())
    done = 0
    for block in blocks(page):
        match block.language:
            case "python" if alone:
                with tempfile.TemporaryDirectory() as folder, chdir(folder):
                    run_python(page, block, {"__name__": "__main__"})
            case "python":
                run_python(page, block, names)
            case "toml":
                write_file(block)
            case "console" | "sh":
                done += sum(run_command(page, command) for command in commands(block))
        done += block.language == "python"
    return done


def run_python(page: Path, block: Block, names: dict[str, Any]) -> None:
    """One snippet; a traceback shows the lines of the page."""
    exec(compile("\n" * (block.line - 1) + block.text, str(page), "exec"), names)


def run_command(page: Path, command: Command) -> bool:
    """Runs a command of qcompile and compares status and output; others are a reader's business."""
    from click.testing import CliRunner

    from qcompiler.cli.main import main

    if not command.text.startswith("qcompile "):
        return False
    words = command.words
    compiles = "--target" in words and words[0] not in ("calibrate", "compare") and "--bench-seconds" not in words
    result = CliRunner().invoke(main, [*words, *(NO_TIMING if compiles else ())])
    where = f"{page.name}:{command.line}: {command.text}"
    assert result.exit_code == command.status, f"{where}\nstatus {result.exit_code}\n{result.output}"
    missing = unlike(command, result.output)
    assert not missing, f"{where}\nis said to print\n" + "\n".join(missing) + f"\nbut prints\n{result.output}"
    return True


def unlike(command: Command, output: str) -> list[str]:
    """Stated lines that the output does not have.

    What a compile, a comparison or a measurement prints depends on the machine: there only the names of the rows count.
    """
    stated, real = [line.rstrip() for line in command.output], [line.rstrip() for line in output.splitlines()]
    if command.status != 2 and command.words[0] not in ("inspect", "targets", "--version"):
        stated, real = [[row for line in lines if (row := row_name(line))] for lines in (stated, real)]
    return [line for line in stated if line and line != "..." and line not in real]


def row_name(line: str) -> str:
    """The name that begins a line of a table, as "latency"; empty where there is none."""
    name = re.match(r"([a-z](?:[a-z/-]| (?! ))*)  ", line)
    return name[1] if name else ""


# ---- renew
def renew(page: Path) -> None:
    """Runs a page and writes the output of every command that shows one back into it."""
    text = page.read_text(encoding="utf-8")
    lines = text.splitlines()
    shell_path = f"{Path(sys.executable).parent}:{Path('/usr/bin')}:{Path('/bin')}"
    changes: list[tuple[int, int, list[str]]] = []
    names: dict[str, Any] = {"__name__": "__main__"}
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        stage(Path())
        for block in blocks(page):
            if block.language == "python" and ALONE not in text:
                run_python(page, block, names)
            elif block.language == "toml":
                write_file(block)
            elif block.language == "console":
                for command in commands(block):
                    done = subprocess.run(
                        ["bash", "-c", command.text], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                        text=True, env={"PATH": shell_path, "LANG": "C.UTF-8"}, check=False,
                    )  # fmt: skip
                    assert done.returncode == command.status, f"{page.name}:{command.line}: {done.stdout}"
                    if command.output and "..." not in command.output:
                        first = next(n for n in range(command.line, len(lines)) if not lines[n - 1].endswith("\\"))
                        changes.append((first, first + len(command.output), done.stdout.splitlines()))
    assert page.read_text(encoding="utf-8") == text, f"{page.name} was changed meanwhile"
    for start, end, new in reversed(changes):
        lines[start:end] = new
    page.write_text("\n".join(lines) + "\n", encoding="utf-8")


def main(args: list[str]) -> None:
    """See the module's docstring."""
    action, chosen = args[0], [Path(arg).resolve() for arg in args[1:]] or list(PAGES)
    for page in chosen:
        if action == "--renew":
            renew(page)
        else:
            print(f"{page.name}: {check(page)} commands and snippets")


if __name__ == "__main__":
    main(sys.argv[1:])
