"""Which objects in a user's module are ASGI apps of other SDKs, to be hosted in this process.

Looks, never calls. Perdure's own `app(...)` is ASGI, too, but is served without encoding: targets.py asks
for it first.
"""

import inspect
from collections.abc import Iterator
from typing import Any, Final, TypeGuard

import msgspec

from perdure.actors.remote.lifespan import AsgiApp
from perdure.endpoint import App
from perdure.gateway.settings import SettingsError

_DEFAULT_NAME: Final = "app"
_PARAMETERS: Final = ("scope", "receive", "send")
_OFFICIAL: Final = "restate"  # the top-level package of the official SDK


class HostedApp(msgspec.Struct, frozen=True):
    """``name`` is MODULE:NAME, and stays the same from start to start.

    ``path``: of the deployment within the app, such as ``/restate``; "" where the app is the deployment.
    """

    name: str
    app: AsgiApp
    path: str = ""


def is_asgi(value: object) -> TypeGuard[AsgiApp]:
    """Whether an object can be called as ASGI 3 says: a coroutine function of three arguments."""
    if inspect.isclass(value) or not callable(value):
        return False
    if not (inspect.iscoroutinefunction(value) or inspect.iscoroutinefunction(_call(value))):
        return False
    try:
        inspect.signature(value).bind(None, None, None)
    except (TypeError, ValueError):
        return False
    return True


def find_app(names: dict[str, Any], *, official_only: bool, target: str) -> str | None:
    """The name of a module's one app, or of the one called `app`. Raises SettingsError for a choice.

    ``official_only``: a module with services of ours may have a web app beside them that is no deployment.
    """
    found = {
        name: value
        for name, value in names.items()
        if is_asgi(value) and (_is_official(value) if official_only else _is_meant(name, value))
    }
    if _DEFAULT_NAME in found:
        return _DEFAULT_NAME
    inner = {id(app) for value in found.values() for _, app in _mounts(value)}
    found = {name: value for name, value in found.items() if id(value) not in inner}
    if len({id(value) for value in found.values()}) > 1:
        raise SettingsError(
            f"target '{target}' holds several ASGI apps: {', '.join(found)}; name one, such as "
            f"{target}:{next(iter(found))}"
        )
    return next(iter(found), None)


def find_mount(app: AsgiApp) -> str:
    """Where a web app of Starlette's kind has a deployment below it, such as ``/restate``; else ""."""
    return next((path for path, inner in _mounts(app) if _is_deployment(inner)), "")


def _mounts(app: object) -> Iterator[tuple[str, object]]:
    """The apps below a web app, each with its path, as FastAPI and Starlette list them."""
    for route in getattr(app, "routes", ()):
        path, inner = getattr(route, "path", None), getattr(route, "app", None)
        if isinstance(path, str) and inner is not None:
            yield path, inner
            for below, deeper in _mounts(inner):
                yield path + below, deeper


def has_official_services(names: dict[str, Any]) -> bool:
    """Services of the official SDK, which are served only as part of an app."""
    return any(
        type(value).__module__.partition(".")[0] == _OFFICIAL
        and hasattr(value, "handlers")
        and hasattr(value, "name")
        for value in names.values()
    )


def _is_meant(name: str, value: AsgiApp) -> bool:
    """A function of three arguments may be anything; one that names them as ASGI does is an app."""
    parameters = tuple(inspect.signature(value).parameters)
    return name == _DEFAULT_NAME or _is_official(value) or parameters[:3] == _PARAMETERS


def _is_deployment(value: object) -> bool:
    return isinstance(value, App) or _is_official(value)


def _is_official(value: object) -> bool:
    module = getattr(value, "__module__", None) or ""
    return module.partition(".")[0] == _OFFICIAL


def _call(value: object) -> object:
    return getattr(value, "__call__", None)  # noqa: B004 - its own, to see whether it is `async def`
