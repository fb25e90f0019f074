"""From what a user typed, ``samples/counter.py`` or ``shop.orders:app``, to services and apps.

The one place that runs a user's file. What goes wrong there is told with the place in that file.
"""

import importlib
import importlib.util
import itertools
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import TypeAlias

import msgspec

from perdure.definition import Definition
from perdure.embedded import flatten
from perdure.endpoint import App, Endpoint
from perdure.gateway.asgi_apps import (
    HostedApp,
    find_app,
    find_mount,
    has_official_services,
    is_asgi,
)
from perdure.gateway.settings import SettingsError
from perdure.journal.errors import UsageError

_OURS = str(Path(__file__).parents[1])  # the folder that is `perdure`


Found: TypeAlias = App | Definition | HostedApp


class Loaded(msgspec.Struct, frozen=True):
    """What the targets hold: ours, and apps of other SDKs."""

    services: list[App | Definition]
    apps: list[HostedApp]


def load_all(targets: list[str]) -> Loaded:
    """The services and apps of all targets, each once. Raises SettingsError."""
    return _merged({target: load_target(target) for target in targets})


def load_targets(targets: list[str]) -> list[App | Definition]:
    """Ours alone. Raises SettingsError, also for a target that holds nothing but an app of another SDK."""
    found = {target: load_target(target) for target in targets}
    for target, each in found.items():
        if all(isinstance(one, HostedApp) for one in each):
            raise SettingsError(
                f"target '{target}' is an ASGI app of another SDK, with no services of Perdure in it; "
                "serve it with an ASGI server such as hypercorn, or host it with `perdure up`"
            )
    return _merged(found).services


def _merged(found: dict[str, list[Found]]) -> Loaded:
    loaded = Loaded([], [])
    for each in itertools.chain.from_iterable(found.values()):
        if isinstance(each, HostedApp):
            _add_app(loaded.apps, each)
        elif not any(each is other for other in loaded.services):
            loaded.services.append(each)
    try:
        flatten(loaded.services)
    except UsageError as error:
        hint = "" if any(":" in each for each in found) else "; of several apps name one, FILE:NAME"
        raise SettingsError(f"{' '.join(found)} can't be served: {error}{hint}") from error
    return loaded


def load_from(modules: list[str], prefix: str) -> Loaded:
    """As ``load_all``, of modules below a package: ``prefix`` ends with a dot. Raises SettingsError."""
    found: dict[str, list[Found]] = {}
    for target in modules:
        where, name = _split(target)
        found[target] = _found(_import_module(prefix + where, target), name, target)
    return _merged(found)


def load_target(target: str) -> list[Found]:
    """One target: a file or a module, optionally with ``:name``."""
    where, name = _split(target)
    module = _import_file(where, target) if _is_file(where) else _import_module(where, target)
    return _found(module, name, target)


def _found(module: ModuleType, name: str, target: str) -> list[Found]:
    names = vars(module)
    if name:
        return [_named(module, name, target)]
    values = list(names.values())
    apps = [v for v in values if isinstance(v, App)]
    services = [v for v in values if isinstance(v, Definition)]
    ours = _once(apps or services)  # an app says what is served; services beside it may be helpers
    others = {name: value for name, value in names.items() if not isinstance(value, App)}
    app = find_app(others, official_only=bool(ours), target=target)
    hosted = [] if app is None else [_hosted(module, app)]
    if not ours and not hosted:
        hint = (
            "; those of the official SDK are served as an app: app = restate.app([...])"
            if has_official_services(names)
            else ""
        )
        raise SettingsError(
            f"target '{target}' holds no services; define a Service, VirtualObject or Workflow at "
            f"module level, or an app(...){hint}"
        )
    return [*ours, *hosted]


def _hosted(module: ModuleType, name: str) -> HostedApp:
    app = vars(module)[name]
    return HostedApp(f"{module.__name__}:{name}", app, find_mount(app))


def _add_app(apps: list[HostedApp], app: HostedApp) -> None:
    for other in apps:
        if other.app is app.app:
            return
        if other.name == app.name:
            raise SettingsError(
                f"two targets hold an app named '{app.name}'; the name tells them apart for good, so "
                "rename one of the files"
            )
    apps.append(app)


def _split(target: str) -> tuple[str, str]:
    where, colon, name = target.rpartition(":")
    return (where, name) if colon and where else (target, "")


def parse_target(target: str) -> tuple[str, str, bool]:
    """The file or module of a target, the name in it or "", and whether it is a file."""
    where, name = _split(target)
    return where, name, _is_file(where)


def _is_file(where: str) -> bool:
    return where.endswith(".py") or "/" in where or Path(where).is_file()


def _import_file(where: str, target: str) -> ModuleType:
    path = Path(where).resolve()
    if not path.is_file():
        raise SettingsError(f"target '{target}': there is no file {where}; check the path")
    folder = str(path.parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise SettingsError(f"target '{target}': {where} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[path.stem]
        raise SettingsError(_broken(target, error)) from error
    return module


def _import_module(where: str, target: str) -> ModuleType:
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(where)
    except ModuleNotFoundError as error:
        if error.name is not None and (where == error.name or where.startswith(error.name + ".")):
            raise SettingsError(
                f"target '{target}': there is no module {where}; name a file such as handlers.py, "
                "or run from the folder that the module is in"
            ) from None
        raise SettingsError(_broken(target, error)) from error
    except (Exception, SystemExit) as error:
        raise SettingsError(_broken(target, error)) from error


def _broken(target: str, error: BaseException) -> str:
    """The error with its place: the last frame that is not ours, or the line of a syntax error."""
    if isinstance(error, SyntaxError):
        return f"target '{target}' can't be loaded: {error.filename}:{error.lineno}: {error.msg}"
    frames = list(traceback.extract_tb(error.__traceback__))
    frames = [each for each in frames if not each.filename.startswith(_OURS)] or frames
    place = f"{frames[-1].filename}:{frames[-1].lineno}: " if frames else ""
    return f"target '{target}' can't be loaded: {place}{type(error).__name__}: {error}"


def _named(module: ModuleType, name: str, target: str) -> Found:
    found = getattr(module, name, None)
    if isinstance(found, Endpoint):
        return found.app()
    if isinstance(found, App | Definition):
        return found
    if is_asgi(found):
        return _hosted(module, name)
    if found is not None:
        package = type(found).__module__.partition(".")[0]
        kind = (
            type(found).__name__ if package == "builtins" else f"{package}.{type(found).__name__}"
        )
        raise SettingsError(
            f"target '{target}': '{name}' is a {kind}; expected a Service, VirtualObject or Workflow of "
            "perdure, or an app(...) of any SDK"
        )
    names = [n for n, v in vars(module).items() if isinstance(v, App | Definition) or is_asgi(v)]
    raise SettingsError(
        f"target '{target}': no '{name}' in it; it has {', '.join(names) or 'none'}"
    )


def _once(found: list[App] | list[Definition]) -> list[Found]:
    unique: list[Found] = []
    for each in found:
        if not any(each is other for other in unique):
            unique.append(each)
    return unique
