"""What counts as an ASGI app in a user's file, and what has precedence."""

from pathlib import Path

import pytest

from perdure.endpoint import App
from perdure.gateway.asgi_apps import HostedApp, is_asgi
from perdure.gateway.settings import SettingsError
from perdure.gateway.targets import load_all, load_targets
from perdure.service import Service

OFFICIAL = "import restate\ntheirs = restate.Service('Theirs')\n"
OURS = "import perdure\nours = perdure.Service('Ours')\n@ours.handler()\nasync def f(ctx): ...\n"
FUNCTION = "async def {}(scope, receive, send): ...\n"


@pytest.fixture
def target(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A file of its own name for each test, as a module's name is taken once."""
    return tmp_path / f"target_{abs(hash(request.node.nodeid))}.py"


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (OFFICIAL + "app = restate.app([theirs])\n", "app"),
        (OFFICIAL + "served = restate.app([theirs])\n", "served"),
        (FUNCTION.format("app") + FUNCTION.format("other"), "app"),
        (FUNCTION.format("web") + "async def helper(a, b, c): ...\n", "web"),
        ("class Web:\n    async def __call__(self, s, r, d): ...\napp = Web()\n", "app"),
        (FUNCTION.format("web") + "alias = web\n", "web"),
    ],
    ids=["official", "any name", "called app", "helper", "object", "alias"],
)
def test_app_is_found_and_named_after_its_place(target: Path, content: str, name: str) -> None:
    target.write_text(content)
    loaded = load_all([str(target)])
    assert loaded.services == []
    assert [each.name for each in loaded.apps] == [f"{target.stem}:{name}"]
    with pytest.raises(SettingsError, match="ASGI app of another SDK"):
        load_targets([str(target)])


def test_app_may_be_named(target: Path) -> None:
    target.write_text(FUNCTION.format("one") + FUNCTION.format("two") + "async def f(a, b, c): ...")
    for name in ("one", "two", "f"):
        assert [e.name for e in load_all([f"{target}:{name}"]).apps] == [f"{target.stem}:{name}"]
    with pytest.raises(
        SettingsError, match=r"several ASGI apps: one, two; name one, such as .*:one"
    ):
        load_all([str(target)])


def test_services_of_ours_and_an_official_app_are_both_served(target: Path) -> None:
    target.write_text(OURS + OFFICIAL + "app = restate.app([theirs])\n")
    loaded = load_all([str(target)])
    assert [type(each) for each in loaded.services] == [Service]
    assert [each.name for each in loaded.apps] == [f"{target.stem}:app"]
    assert len(load_targets([str(target)])) == 1


def test_web_app_beside_our_services_is_no_deployment(target: Path) -> None:
    target.write_text(OURS + FUNCTION.format("app"))
    loaded = load_all([str(target)])
    assert (len(loaded.services), loaded.apps) == (1, [])


def test_our_own_app_is_served_without_encoding(target: Path) -> None:
    target.write_text(OURS + "app = perdure.app([ours])\n")
    loaded = load_all([str(target)])
    assert [type(each) for each in loaded.services] == [App]
    assert loaded.apps == []


def test_official_services_without_an_app_are_explained(target: Path) -> None:
    target.write_text(OFFICIAL)
    with pytest.raises(SettingsError, match=r"holds no services;.*app = restate\.app"):
        load_all([str(target)])


def test_file_is_run_once_and_its_app_hosted_once(target: Path) -> None:
    target.write_text(
        "runs = []\n" + FUNCTION.format("app") + "runs.append(1)\nassert runs == [1]\n"
    )
    (first,) = load_all([str(target)]).apps
    assert isinstance(first, HostedApp)


def test_names_of_hosted_apps_tell_them_apart(target: Path) -> None:
    other = target.parent / "folder" / target.name
    other.parent.mkdir()
    for each in (target, other):
        each.write_text(FUNCTION.format("app"))
    with pytest.raises(SettingsError, match="two targets hold an app named"):
        load_all([str(target), str(other)])


def test_only_coroutine_functions_of_three_arguments_are_apps() -> None:
    async def three(a: int, b: int, c: int) -> None: ...
    async def two(a: int, b: int) -> None: ...
    def plain(a: int, b: int, c: int) -> None: ...

    class Called:
        async def __call__(self, a: int, b: int, c: int) -> None: ...

    assert is_asgi(three)
    assert is_asgi(Called())
    assert not any(is_asgi(each) for each in (two, plain, Called, 3, None, "text"))
