"""Versions of a project side by side: each keeps its own modules, from a copy that nobody changes."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from perdure.gateway.settings import SettingsError
from perdure.gateway.version_code import VersionCode, project_of
from perdure.gateway.version_store import VersionStore

MAIN = """
from __future__ import annotations
import typing
from dataclasses import dataclass
import perdure
import vc_pack.inner
from vc_pack import inner as again, texts
from vc_pack.texts import word
from .vc_texts import number

shop = perdure.Service("Shop")


@dataclass
class Box:
    x: Other


@dataclass
class Other:
    y: int


def told() -> str:
    import vc_texts  # late
    hints = typing.get_type_hints(Box)
    assert hints["x"] is Other
    assert vc_pack.inner is again
    return f"{word} {vc_pack.inner.word} {vc_texts.number} {number}"


@shop.handler()
async def f(ctx: perdure.Context) -> str:
    return told()
"""


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """What a test loads is gone after it."""
    modules, finders = set(sys.modules), list(sys.meta_path)
    yield
    for name in set(sys.modules) - modules:
        del sys.modules[name]
    sys.meta_path[:] = finders


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    (folder / "vc_pack").mkdir(parents=True)
    (folder / "vc_pack" / "__init__.py").write_text("")
    (folder / "vc_pack" / "inner.py").write_text("from vc_pack.texts import word\n")
    (folder / "vc_pack" / "texts.py").write_text("word = 'one'\n")
    (folder / "vc_texts.py").write_text("number = 1\n")
    (folder / "vc_main.py").write_text(MAIN)
    return folder


def load(store: VersionStore, project: Path) -> VersionCode:
    folder, targets = project_of([str(project / "vc_main.py")])
    hash = store.take(folder)
    code = VersionCode(hash, store.folder(hash))
    assert [each.name for each in code.load(targets).services] == ["Shop"]  # type: ignore[union-attr]
    return code


def told(code: VersionCode) -> str:
    return str(sys.modules[f"{code.package}.vc_main"].told())


def test_two_versions_are_loaded_side_by_side_and_late_imports_stay_in_theirs(
    project: Path, tmp_path: Path
) -> None:
    store = VersionStore(tmp_path / "data")
    old = load(store, project)
    (project / "vc_pack" / "texts.py").write_text("word = 'two'\n")
    (project / "vc_texts.py").write_text("number = 2\n")
    new = load(store, project)
    assert old.package != new.package
    assert told(new) == "two two 2 2"
    assert told(old) == "one one 1 1"
    assert "vc_texts" not in sys.modules
    new.unload()
    assert told(old) == "one one 1 1"
    assert not [each for each in sys.modules if each.startswith(new.package)]


def test_the_same_tree_is_the_same_version_and_what_is_no_source_of_it_does_not_count(
    project: Path, tmp_path: Path
) -> None:
    store = VersionStore(project / "data")
    first = store.take(project)
    (project / "__pycache__").mkdir()
    (project / "__pycache__" / "x.pyc").write_bytes(b"x")
    (project / ".git").mkdir()
    (project / ".git" / "HEAD").write_text("x")
    (project / "venv").mkdir()
    (project / "venv" / "pyvenv.cfg").write_text("x")
    (project / "data" / "row").write_text("x")
    assert store.take(project) == first
    (project / "orders.csv").write_text("x")
    second = store.take(project)
    assert second != first
    assert sorted(each.name for each in (project / "data" / "code").iterdir()) == sorted(
        [first, second]
    )
    store.sweep({second})
    assert [each.name for each in (project / "data" / "code").iterdir()] == [second]


def test_code_that_can_not_be_loaded_leaves_nothing_behind(project: Path, tmp_path: Path) -> None:
    (project / "vc_pack" / "texts.py").write_text("word = 1 / 0\n")
    store = VersionStore(tmp_path / "data")
    hash = store.take(project)
    with pytest.raises(SettingsError, match=r"texts.py:1: ZeroDivisionError"):
        VersionCode(hash, store.folder(hash)).load(["vc_main"])
    assert not [each for each in sys.modules if each.startswith("perdure_code_")]


def test_targets_of_several_folders_are_no_project(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.py").write_text("")
    with pytest.raises(SettingsError, match="in several folders"):
        project_of([str(tmp_path / "one" / "x.py"), str(tmp_path / "two" / "x.py")])
