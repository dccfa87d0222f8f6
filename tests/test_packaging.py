"""The package is what the repository says: packages listed, links in place, a wheel that works, pinned constraints."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Collection, Iterable, Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import qcompiler

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LISTED: list[str] = PROJECT["tool"]["setuptools"]["packages"]
LINKED = ("passes", "backends")


def on_disk() -> list[str]:
    """Every package of the source tree, under the name that it ships as."""
    found = []
    for top in ("qcompiler", *LINKED):
        for file in (ROOT / top).rglob("__init__.py"):
            parts = file.parent.relative_to(ROOT).parts
            if not file.parent.is_symlink():
                found.append(".".join(parts if top == "qcompiler" else ("qcompiler", *parts)))
    return sorted(found)


def test_packages_are_listed() -> None:
    assert on_disk() == LISTED
    assert {"qcompiler.passes.fusion", "qcompiler.backends.onnxruntime"} <= set(LISTED)


def test_every_folder_of_modules_is_a_package() -> None:
    for top in ("qcompiler", *LINKED):
        for file in (ROOT / top).rglob("*.py"):
            assert (file.parent / "__init__.py").is_file(), file


@pytest.mark.parametrize("name", LINKED)
def test_links_are_there_and_relative(name: str) -> None:
    link = ROOT / "qcompiler" / name
    assert link.is_symlink() and link.readlink() == Path("..") / name
    assert link.resolve() == ROOT / name


@pytest.mark.parametrize("name", LINKED)
def test_the_folders_have_one_name_only(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"import {name}"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"ImportError: import qcompiler.{name}, not {name}"


def test_version() -> None:
    assert PROJECT["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "qcompiler._version.__version__"}
    assert str(Version(qcompiler.__version__)) == qcompiler.__version__ == version("qcompiler")


# ---- the wheel
@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from a copy of the sources, without network, and unpacked."""
    try:
        if Version(version("setuptools")) < Version("77"):
            pytest.skip(f"setuptools {version('setuptools')} cannot build it; 77 or later can")
        version("pip")
    except PackageNotFoundError as error:
        pytest.skip(f"{error} is not installed")
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    for name in ("qcompiler", *LINKED):
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    words = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", "dist", "."]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", *words],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (built,) = (folder / "dist").iterdir()
    with zipfile.ZipFile(built) as archive:
        archive.extractall(folder / "unpacked")
    return folder / "unpacked"


def test_wheel_holds_every_module_once(wheel: Path) -> None:
    wanted = {"qcompiler/py.typed"}
    for top in ("qcompiler", *LINKED):
        for file in (ROOT / top).rglob("*.py"):
            path = file.relative_to(ROOT).as_posix()
            wanted.add(path if top == "qcompiler" else f"qcompiler/{path}")
    held = {path.relative_to(wheel).as_posix() for path in wheel.rglob("*") if path.is_file()}
    assert {path for path in held if ".dist-info/" not in path} == wanted
    (info,) = wheel.glob("*.dist-info")
    assert (info / "licenses" / "LICENSE").is_file()
    assert "qcompile = qcompiler.cli.main:main" in (info / "entry_points.txt").read_text()
    metadata = (info / "METADATA").read_text(encoding="utf-8")
    assert f"\nVersion: {qcompiler.__version__}\n" in metadata and "\nLicense-Expression: Apache-2.0\n" in metadata
    assert "torch" not in re.findall(r"^Requires-Dist: ([\w-]+)", metadata, re.MULTILINE)


def test_wheel_works(wheel: Path, tmp_path: Path) -> None:
    code = (
        "import qcompiler, qcompiler.passes.fusion as f, qcompiler.backends as b;"
        "print(qcompiler.__file__, f.__file__, b.get('onnxruntime').spec.name)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path, env={"PYTHONPATH": str(wheel)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    own, fusion, name = done.stdout.split()
    assert Path(own) == wheel / "qcompiler" / "__init__.py"
    assert Path(fusion) == wheel / "qcompiler" / "passes" / "fusion" / "__init__.py"
    assert name == "onnxruntime"


# ---- constraints
def pins() -> dict[str, str]:
    """Version by name; a line of any other form is a failure."""
    found = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        match = re.fullmatch(r"([A-Za-z0-9][A-Za-z0-9._-]*)==([0-9][A-Za-z0-9.]*)", line)
        assert match is not None, f"not NAME==VERSION: {line!r}"
        found[canonicalize_name(match[1])] = match[2]
    return found


def needed(requirements: Iterable[str], extras: Collection[str], seen: set[str]) -> Iterator[Requirement]:
    """The requirements that hold here with these extras, and what they require in turn, each once."""
    for need in map(Requirement, requirements):
        key = f"{canonicalize_name(need.name)} {sorted(need.extras)}"
        applies = need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in ("", *extras))
        if applies and key not in seen:
            seen.add(key)
            yield need
            yield from needed(requires(need.name) or [], need.extras, seen)


def test_constraints_pin_everything_that_is_installed() -> None:
    project, pinned = PROJECT["project"], pins()
    wanted = [*project["dependencies"], *chain.from_iterable(project["optional-dependencies"].values())]
    for need in needed(wanted, (), set()):
        name = canonicalize_name(need.name)
        assert name in pinned, f"constraints.txt does not pin {name}"
        assert need.specifier.contains(pinned[name]), f"{need} and {name}=={pinned[name]}"
