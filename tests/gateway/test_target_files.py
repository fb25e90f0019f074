"""Which files belong to a target: those of its project, and no installed or hidden one."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from perdure.gateway.settings import SettingsError
from perdure.gateway.target_files import changed, files_in, files_of, signature
from perdure.gateway.targets import load_all

SERVICE = """
import json
import perdure
{imports}
{name} = perdure.Service("{name}")
@{name}.handler()
async def f(ctx: perdure.Context) -> None: ...
"""


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """What a test loads is gone after it."""
    modules, path = set(sys.modules), list(sys.path)
    yield
    for name in set(sys.modules) - modules:
        del sys.modules[name]
    sys.path[:] = path


def service(file: Path, name: str, imports: str = "") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(SERVICE.format(name=name, imports=imports))
    return file


def test_a_file_brings_what_it_imported_from_its_folder_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "tf_helper.py").write_text("x = 1\n")
    (tmp_path / "tf_unused.py").write_text("x = 1\n")
    installed = tmp_path / ".venv" / "lib" / "site-packages"
    installed.mkdir(parents=True)
    (installed / "tf_installed.py").write_text("x = 1\n")
    sys.path.insert(0, str(installed))
    target = service(tmp_path / "tf_main.py", "One", "import tf_helper, tf_installed")
    load_all([str(target)])
    assert files_of([str(target)]) == [str(tmp_path / "tf_helper.py"), str(target)]


def test_a_module_brings_its_whole_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service(tmp_path / "tf_shop" / "orders.py", "Two", "from tf_shop import prices")
    (tmp_path / "tf_shop" / "__init__.py").write_text("")
    (tmp_path / "tf_shop" / "prices.py").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    load_all(["tf_shop.orders:Two"])
    found = [Path(each).name for each in files_of(["tf_shop.orders:Two"])]
    assert found == ["__init__.py", "orders.py", "prices.py"]


def test_a_module_that_could_not_be_imported_is_found_in_the_error(tmp_path: Path) -> None:
    (tmp_path / "tf_broken.py").write_text("x = \n")
    target = service(tmp_path / "tf_imports.py", "Three", "import tf_broken")
    with pytest.raises(SettingsError) as caught:
        load_all([str(target)])
    assert files_in(caught.value, [str(target)]) == [str(tmp_path / "tf_broken.py"), str(target)]


def test_a_change_is_seen_by_size_or_time_and_so_is_a_file_that_comes_or_goes(
    tmp_path: Path,
) -> None:
    one, two, three = (str(tmp_path / name) for name in ("one", "two", "three"))
    Path(one).write_text("1")
    Path(two).write_text("2")
    before = signature([one, two, three])
    assert changed(before, signature([one, two, three])) == []
    Path(one).write_text("11")
    Path(two).unlink()
    Path(three).write_text("3")
    assert changed(before, signature([one, two, three])) == sorted([one, two, three])
