"""Rules of the house that no other tool checks."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PRODUCT = ("qcompiler", "passes", "backends")
LONGEST = 300
LIST_EDITS = ("append", "clear", "extend", "insert", "pop", "remove", "reverse", "sort")
HEAVY = (
    "google", "ml_dtypes", "networkx", "numpy", "onnx", "onnx_graphsurgeon", "onnxruntime", "rich", "scipy",
    "tensorrt_rtx",
)  # fmt: skip


@cache
def tracked() -> tuple[Path, ...]:
    """Every file that git tracks, links left out."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("not a clone of the repository")
    paths = [ROOT / name for name in done.stdout.split("\0") if name]
    return tuple(path for path in paths if path.is_file() and not path.is_symlink())


def modules(*tops: str) -> Iterator[Path]:
    """The Python files of some folders, those of the linked ones under their own names."""
    for top in tops:
        for path in sorted((ROOT / top).rglob("*.py")):
            if top != "qcompiler" or path.relative_to(ROOT).parts[1] not in ("passes", "backends"):
                yield path


@cache
def parsed(path: Path) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def inside_ir(path: Path) -> bool:
    """Whether a file belongs to the package that may edit graphs by hand."""
    return path.is_relative_to(ROOT / "qcompiler" / "ir")


def imported(tree: ast.Module) -> Iterator[str]:
    """The top-level names of everything imported, inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]


def edits(tree: ast.Module) -> Iterator[int]:
    """Lines that change a list of a node or graph in place: `x.inputs = ...`, `x.inputs[0] = ...`, `x.nodes.remove()`.

    An object may set attributes of its own.
    """

    def listed(node: ast.expr) -> bool:
        if isinstance(node, ast.Subscript):
            node = node.value
        if not isinstance(node, ast.Attribute):
            return False
        owner = node.value.attr if isinstance(node.value, ast.Attribute) else getattr(node.value, "id", "")
        if node.attr == "nodes":  # others have such an attribute too
            return owner.endswith(("graph", "model"))
        return node.attr in ("inputs", "outputs") and owner != "self"

    for node in ast.walk(tree):
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign | ast.Delete):
            targets = [part for whole in node.targets for part in (getattr(whole, "elts", None) or [whole])]
        elif isinstance(node, ast.AugAssign):
            targets = [node.target]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LIST_EDITS:
            targets = [node.func.value]
        if any(listed(target) for target in targets):
            yield node.lineno


def test_only_ir_imports_graphsurgeon() -> None:
    importers = [path for path in modules(*PRODUCT, "benchmarks") if "onnx_graphsurgeon" in imported(parsed(path))]
    assert importers and all(map(inside_ir, importers)), importers


def test_no_product_module_imports_torch() -> None:
    assert not [path for path in modules(*PRODUCT, "benchmarks", "tests") if "torch" in imported(parsed(path))]


def test_graphs_are_edited_by_ir_alone() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in modules(*PRODUCT)
        if not inside_ir(path)
        for line in edits(parsed(path))
    ]
    assert found == []


@pytest.mark.parametrize(
    "line",
    [
        "node.inputs = [x]", "node.outputs[0] = x", "graph.nodes.remove(node)", "model.graph.nodes.insert(0, node)",
        "node.inputs += [x]", "del node.inputs[1]", "a, node.inputs = 1, []", "node.outputs.clear()",
    ],
)  # fmt: skip
def test_edits_are_recognised(line: str) -> None:
    assert list(edits(ast.parse(line))) == [1]


def test_questions_are_no_edits() -> None:
    assert not list(
        edits(ast.parse("x = node.inputs[0]; y = node.outputs == z; self.inputs = a; f(inputs=b); found.nodes[c] = 1"))
    )


def test_no_file_is_too_long() -> None:
    lengths = {path.relative_to(ROOT).as_posix(): len(path.read_bytes().splitlines()) for path in modules(*PRODUCT)}
    assert {name: length for name, length in lengths.items() if length > LONGEST} == {}


def test_every_module_says_what_it_is() -> None:
    silent = [
        path.relative_to(ROOT).as_posix()
        for path in modules(*PRODUCT, "benchmarks", "models")
        if path.stat().st_size and not ast.get_docstring(parsed(path))
    ]
    assert silent == []


def test_no_path_of_one_machine_and_no_package_index() -> None:
    folders = "|".join(("work", "root", "tmp", "home"))  # written apart, or this file would be found
    hosts = "|".join((r"pypi\.", "python" + "hosted", r"npm" + "js", r"conda\.", r"debian\.", r"crates\."))
    options = "|".join(("index" + "-url", "find" + "-links", "trusted" + "-host"))
    forbidden = re.compile(
        rf"(?<![\w.~-])/(?:{folders})/|https?://[^\s/]*(?:{hosts})|--(?:extra-)?(?:{options})".encode()
    )
    assert forbidden.search(b"cd /" + b"tmp/x") and not forbidden.search(b"shared/" + b"tmp/x")
    found = {
        path.relative_to(ROOT).as_posix(): match[0]
        for path in tracked()
        if (match := forbidden.search(path.read_bytes())) is not None
    }
    assert found == {}


def test_links_in_the_tree_are_those_of_the_package() -> None:
    done = subprocess.run(["git", "ls-files", "-s"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("not a clone of the repository")
    links = {line.split("\t")[1] for line in done.stdout.splitlines() if line.startswith("120000")}
    assert links == {"qcompiler/passes", "qcompiler/backends"}


@pytest.mark.parametrize("command", [(), ("--help",), ("--version",), ("calibrate", "--help"), ("targets", "--help")])
def test_help_imports_nothing_heavy(command: tuple[str, ...]) -> None:
    code = (
        "import sys\n"
        "from qcompiler.cli.main import main\n"
        "try:\n    main(sys.argv[1:])\n"
        "except SystemExit:\n    pass\n"
        f"print('imported', *sorted({set(HEAVY)!r} & sys.modules.keys()), sep=' ')\n"
    )
    done = subprocess.run([sys.executable, "-c", code, *command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "qcompile" in done.stdout
    assert done.stdout.splitlines()[-1] == "imported"
