"""The documentation does what it says: snippets run, commands print and exit as shown, links lead somewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import qcompiler
from qcompiler import backends
from qcompiler.cli.group import TERMINATED
from qcompiler.cli.main import main
from qcompiler.recipe import Recipe
from qcompiler.report import record
from qcompiler.search import algorithms, promise
from qcompiler.search.limit import Limit
from tests.doc_pages import PAGES, ROOT, blocks, commands

TEXTS = {page.name: page.read_text(encoding="utf-8") for page in PAGES}
OPTION = re.compile(r"--[a-z][a-z-]+")
LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")


def outside_fences(text: str) -> str:
    """The prose: no fenced blocks."""
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def rows(text: str, heading: str) -> Iterator[list[str]]:
    """The cells of every table under a heading, without head and rule."""
    section = re.split(r"^## ", text.split(f"\n## {heading}\n", 1)[1], flags=re.MULTILINE)[0]
    for line in section.splitlines():
        if line.startswith("|") and not line.startswith("|---"):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if cells[0] not in ("file", "key", "name", "option", "status", "target"):
                yield cells


def code(cell: str) -> list[str]:
    """The code spans of a cell."""
    return re.findall(r"`([^`]+)`", cell)


def options_of(*command: str) -> set[str]:
    """The long options that the help of a command lists."""
    text = CliRunner().invoke(main, [*command, "--help"]).stdout
    listed = re.findall(r"^  (-.*?)(?:  |$)", text.split("\nOptions:", 1)[1], flags=re.MULTILINE)
    return {option for line in listed for option in OPTION.findall(line)}


# ---- what runs
def checked(page: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """A run of `doc_pages --check` in an empty folder."""
    folder.mkdir(exist_ok=True)
    words = [sys.executable, "-m", "tests.doc_pages", "--check", str(page)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=300)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_snippets_and_commands(page: Path, tmp_path: Path) -> None:
    done = checked(page, tmp_path)
    assert done.returncode == 0, done.stderr[-8000:]
    shown = [block for block in blocks(page) if block.language in ("python", "console")]
    counted = re.search(r"^\S+: (\d+) commands and snippets$", done.stdout, re.MULTILINE)
    assert counted is not None and int(counted[1]) >= len(shown) > 0


LIES = {
    "snippet": ("```python\nassert 1 == 2\n```\n", "AssertionError"),
    "output": (
        "```console\n$ qcompile targets\nonnxruntime: the best\n```\n",
        "is said to print\nonnxruntime: the best",
    ),
    "error": ("```console\n$ qcompile targets tpu\nqcompile: error: no\n$ echo $?\n2\n```\n", "is said to print"),
    "failure": ("```console\n$ qcompile targets tpu\n```\n", "status 2"),
    "success": ("```console\n$ qcompile --version\n$ echo $?\n3\n```\n", "status 0"),
    "row": (
        "```console\n$ qcompile model.onnx --target onnxruntime -o o\nlatency  1\nbeauty  2\n```\n",
        "is said to print\nbeauty\n",
    ),
    "in sh": ("```sh\nqcompile gone.onnx\n```\n", "status 2"),
}


@pytest.mark.parametrize("kind", LIES)
def test_a_page_that_lies_is_found(kind: str, tmp_path: Path) -> None:
    text, words = LIES[kind]
    page = tmp_path / "page.md"
    page.write_text(text)
    done = checked(page, tmp_path / "folder")
    assert done.returncode != 0 and words in done.stderr, done.stderr


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = {name for text in TEXTS.values() for name in re.findall(r"(?:^|`)make ([a-z]+)", text, re.MULTILINE)}
    assert {"demo", "test", "lint", "bench"} <= named
    assert all(re.search(rf"^{name}:", makefile, re.MULTILINE) for name in named)


# ---- links
@pytest.mark.parametrize("page", [*PAGES, *sorted((ROOT / "models").rglob("*.md"))], ids=lambda page: str(page.name))
def test_links_resolve(page: Path) -> None:
    for link in LINK.findall(outside_fences(page.read_text(encoding="utf-8"))):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists() and target.is_relative_to(ROOT), f"{page.name}: {link}"
        if anchor:
            assert anchor in anchors(target), f"{page.name}: {link}"


def anchors(page: Path) -> set[str]:
    """The anchors that headings get: lower case, words joined by hyphens, punctuation gone."""
    headings = re.findall(r"^#+ (.+)$", outside_fences(page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_page_is_linked_from_the_readme() -> None:
    linked = set(LINK.findall(TEXTS["README.md"]))
    assert {f"docs/{page.name}" for page in PAGES if page.name != "README.md"} <= linked


# ---- what is listed
def test_the_list_of_options_is_that_of_the_help() -> None:
    listed = [option for cells in rows(TEXTS["first-compile.md"], "All options") for option in OPTION.findall(cells[0])]
    assert sorted(listed) == sorted(options_of())


def test_options_in_prose_exist() -> None:
    known = options_of().union(*(options_of(name) for name in main.commands))
    for name, text in TEXTS.items():
        spans = [
            span for span in re.findall(r"`([^`\n]+)`", outside_fences(text)) if span.startswith(("--", "qcompile"))
        ]
        assert {option for span in spans for option in OPTION.findall(span)} <= known, name


def test_exit_statuses_are_those_of_the_help() -> None:
    text = CliRunner().invoke(main, ["--help"]).stdout.split("Exit status:", 1)[1].split("\n\n", 1)[0]
    wanted = sorted({*re.findall(r"^ +(\d+)", text, re.MULTILINE), str(TERMINATED)})
    for name, heading in (("README.md", "Exit status"), ("first-compile.md", "When something is wrong")):
        listed = sorted(status for cells in rows(TEXTS[name], heading) for status in re.findall(r"\d+", cells[0]))
        assert listed == wanted, name


def test_the_table_of_targets_tells_the_truth() -> None:
    table = {code(cells[0])[0]: cells[1:] for cells in rows(TEXTS["README.md"], "Targets")}
    assert {name for name, cells in table.items() if cells[0] == "works"} == set(backends.names())
    for name, (today, variants, precisions) in table.items():
        if today == "works":
            spec = backends.get(name).spec
            assert code(variants) == list(spec.variants) and code(precisions) == list(spec.precisions)
        else:
            assert (today, variants, precisions) == ("not yet", "", "")


def test_every_field_of_a_recipe_is_explained() -> None:
    found = {code(cells[0])[0]: cells[1:] for cells in rows(TEXTS["recipes.md"], "Every key")}
    assert list(found) == [field.name for field in fields(Recipe)]
    for field in fields(Recipe):
        example, left_out, option, meaning = found[field.name]
        text = f"{field.name} = {code(example)[0]}"
        assert Recipe().updated(tomllib.loads(text)) != Recipe(), f"{text} changes nothing"
        assert meaning
        assert in_toml(default(field)) == (code(left_out) or [left_out])[0], field.name
        assert set(code(option)) <= options_of()


def test_presets_are_as_documented() -> None:
    table = [line.split(" | ") for line in TEXTS["accuracy-algorithms.md"].splitlines() if line.startswith("| `")]
    assert [code(cells[0])[0] for cells in table] == list(algorithms.names())
    for cells in table:
        name = code(cells[0])[0].replace("-", "_")
        states = ["on" if getattr(algorithms.PRESETS[preset], name) else "off" for preset in algorithms.PRESETS]
        assert [cell.strip() for cell in cells[1:4]] == states, name
        assert (ROOT / code(cells[5])[0]).is_file()


def default(field: Field[Any]) -> Any:
    """The default of a field of a dataclass."""
    return field.default if field.default_factory is MISSING else field.default_factory()


def in_toml(value: object) -> str:
    """A default as the page writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    return (
        "none" if value is None else f'"{value}"' if isinstance(value, str | Limit) else str(value).replace("()", "[]")
    )


def test_the_limits_of_what_is_broken_are_those_of_the_code() -> None:
    paragraph = (
        TEXTS["accuracy-dropped.md"].split("Without `--max-drop`, a candidate is broken", 1)[1].split("\n\n", 1)[0]
    )
    limits = [int(number) for number in re.findall(r"\b\d+\b", paragraph)]
    assert limits == [Recipe().sqnr_floor, 100 * promise.COLLAPSE, 100 * promise.AGREEMENT_COLLAPSE, promise.NEAR]


# ---- report.json
def test_every_key_of_the_report_is_explained() -> None:
    text = TEXTS["reports.md"]
    parts: dict[str, type] = {
        "The whole": record.Report, "passes": record.PassLine, "nodes": record.NodeLine, "tensors": record.TensorLine,
        "accuracy": record.Accuracy, "latency": record.Latency, "candidates": record.CandidateLine,
        "artifacts": record.Artifact,
    }  # fmt: skip
    for heading, part in parts.items():
        explained = [key for cells in rows(text, heading) for key in code(cells[0])]
        assert sorted(explained) == sorted(field.name for field in fields(part)), heading


def test_every_file_and_key_of_a_real_compile_is_explained(tmp_path: Path) -> None:
    cnn = ROOT / "models" / "digits_cnn"
    recipe = Recipe(samples=4, bench_seconds=0)
    report = qcompiler.compile(
        cnn / "model.onnx", "onnxruntime", cnn / "calibration.npz", output=tmp_path / "out", recipe=recipe
    ).report
    listed = [code(cells[0])[0] for cells in rows(TEXTS["README.md"], "What is in the output folder")]
    assert {path.name for path in (tmp_path / "out").iterdir()} <= set(listed) and len(set(listed)) == len(listed)
    text = TEXTS["reports.md"]
    for heading in ("model", "calibration", "backend"):
        explained = [key for cells in rows(text, heading) for key in code(cells[0])]
        assert sorted(explained) == sorted(getattr(report, heading)), heading
    whole = {code(cells[0])[0]: cells[2] for cells in rows(text, "The whole")}
    for key in ("tool", "target", "size"):
        assert set(getattr(report, key)) <= set(code(whole[key])), key


def test_the_readme_names_every_part_of_the_report() -> None:
    paragraph = TEXTS["README.md"].split("In `report.json`:", 1)[1].split("\n\n", 1)[0]
    assert sorted(code(paragraph)) == sorted(field.name for field in fields(record.Report))


def test_the_readme_names_all_that_is_public() -> None:
    listed = [name for cells in rows(TEXTS["README.md"], "From Python") for name in code(cells[0])]
    assert sorted(listed) == sorted(set(qcompiler.__all__) - {"__version__"})


# ---- the house
def test_the_readme_draws_the_folders_that_are_there() -> None:
    drawing = next(block.text for block in blocks(ROOT / "README.md") if block.text.startswith("qcompiler/"))
    drawn = {line.split()[0].rstrip("/") for line in drawing.splitlines() if line.startswith("  ")}
    package = ROOT / "qcompiler"
    there = {path.name for path in package.iterdir() if (path / "__init__.py").is_file() and not path.is_symlink()}
    there |= {path.name for path in package.glob("*.py") if not path.name.startswith("_")}
    assert drawn == there - {"errors.py"}
    tops = {word.rstrip("/") for line in drawing.splitlines() if not line.startswith(" ") for word in line.split()[:1]}
    assert all((ROOT / name).is_dir() for name in tops)


def test_no_command_is_shown_without_being_run() -> None:
    consoles = [block for page in PAGES for block in blocks(page) if block.language == "console"]
    shown = [command for block in consoles for command in commands(block)]
    assert shown and all(command.text.startswith("qcompile ") for command in shown)
