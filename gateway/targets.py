"""From what a user typed, ``samples/counter.py`` or ``shop.orders:app``, to services.

The one place that runs a user's file. What goes wrong there is told with the place in that file.
"""

import importlib
import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType

from perdure.definition import Definition
from perdure.embedded import flatten
from perdure.endpoint import App, Endpoint
from perdure.gateway.settings import SettingsError
from perdure.journal.errors import UsageError

_OURS = str(Path(__file__).parents[1])  # the folder that is `perdure`


def load_targets(targets: list[str]) -> list[App | Definition]:
    """The services and apps of all targets, each once. Raises SettingsError."""
    found: list[App | Definition] = []
    for target in targets:
        for each in load_target(target):
            if not any(each is other for other in found):
                found.append(each)
    try:
        flatten(found)
    except UsageError as error:
        raise SettingsError(f"{' '.join(targets)} can't be served: {error}") from error
    return found


def load_target(target: str) -> list[App | Definition]:
    """One target: a file or a module, optionally with ``:name``."""
    where, name = _split(target)
    module = _import_file(where, target) if _is_file(where) else _import_module(where, target)
    if name:
        return [_named(module, name, target)]
    values = list(vars(module).values())
    apps = [v for v in values if isinstance(v, App)]
    services = [v for v in values if isinstance(v, Definition)]
    found = apps or services  # an app says what is served; services beside it may be helpers
    if not found:
        raise SettingsError(
            f"target '{target}' holds no services; define a Service, VirtualObject or Workflow at "
            "module level, or an app(...)"
        )
    return _once(found)


def _split(target: str) -> tuple[str, str]:
    where, colon, name = target.rpartition(":")
    return (where, name) if colon and where else (target, "")


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


def _named(module: ModuleType, name: str, target: str) -> App | Definition:
    found = getattr(module, name, None)
    if isinstance(found, Endpoint):
        return found.app()
    if isinstance(found, App | Definition):
        return found
    if found is not None:
        kind = type(found).__name__
        raise SettingsError(
            f"target '{target}': '{name}' is a {kind}; expected a Service, VirtualObject, Workflow or "
            "app(...)"
        )
    names = [n for n, v in vars(module).items() if isinstance(v, App | Definition)]
    raise SettingsError(
        f"target '{target}': no '{name}' in it; it has {', '.join(names) or 'none'}"
    )


def _once(found: list[App] | list[Definition]) -> list[App | Definition]:
    unique: list[App | Definition] = []
    for each in found:
        if not any(each is other for other in unique):
            unique.append(each)
    return unique
