"""What is installed is what is there: packages, dependencies, the command, and no file too much."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

from tests.house.documents import ROOT

ROOMS = ("sdk", "journal", "actors", "gateway")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
OPTIONAL = {"opentelemetry", "pydantic", "pytest"}  # used where a user has them, never needed


def _distribution(requirement: str) -> str:
    return re.split(r"[<>=!\[; ]", requirement)[0].lower()


def _nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Everything below that is there at run time."""
    for each in ast.iter_child_nodes(node):
        if not (isinstance(each, ast.If) and ast.unparse(each.test) == "TYPE_CHECKING"):
            yield each
            yield from _nodes(each)


def _imports(path: Path) -> set[str]:
    names = set()
    for node in _nodes(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {each.name.partition(".")[0] for each in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.partition(".")[0])
    return names - sys.stdlib_module_names - {"perdure"}


def test_every_import_is_declared_and_every_dependency_is_imported() -> None:
    imported = {
        name for room in ROOMS for path in (ROOT / room).glob("**/*.py") for name in _imports(path)
    }
    where = packages_distributions()
    declared = {_distribution(each) for each in PROJECT["project"]["dependencies"]}
    found = set()
    for name in imported - OPTIONAL:
        homes = {each.lower() for each in where[name]}  # several may share a name, such as `google`
        found |= homes & declared or homes
    assert found == declared


def test_every_package_is_listed_with_its_folder() -> None:
    setuptools = PROJECT["tool"]["setuptools"]
    folders = setuptools["package-dir"]
    with_code = {path.parent for room in ROOMS for path in (ROOT / room).glob("**/*.py")}
    listed = {
        name: ROOT / folders[".".join(name.split(".")[:2])] / "/".join(name.split(".")[2:])
        for name in setuptools["packages"]
    }
    assert {path.resolve() for path in listed.values()} == with_code


def test_no_file_of_the_sdk_is_called_like_a_room() -> None:
    assert {path.stem for path in (ROOT / "sdk").iterdir()} & {*ROOMS, "perdure"} == set()


def test_the_rooms_are_typed_for_their_users() -> None:
    assert (ROOT / "sdk/py.typed").exists()


def test_the_licence_is_whole_and_names_its_holder() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert "The Perdure authors" in text
    assert PROJECT["project"]["license"] == "Apache-2.0"
