"""Loads a version of a project beside others in this process, under module names of its own.

`shop.orders` of version 4f2a becomes `perdure_code_4f2a.shop.orders`, for ever: its classes and functions
keep the module objects that they were made with. `import shop` inside of it finds its own `shop`. What is
installed is shared by all versions. Dynamic imports by name (`importlib.import_module("shop")`) are not
redirected.
"""

import builtins
import importlib
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from perdure.gateway.settings import SettingsError
from perdure.gateway.targets import Loaded, load_from, parse_target

_PREFIX: Final = "perdure_code_"


def project_of(targets: Sequence[str]) -> tuple[Path, list[str]]:
    """The folder that the targets are in, and the targets as seen from there, as modules.

    Raises SettingsError where they are not all in one folder.
    """
    folders, inner = set(), []
    for target in targets:
        where, name, is_file = parse_target(target)
        path = Path(where).resolve()
        folders.add(path.parent if is_file else Path.cwd())
        inner.append((path.stem if is_file else where) + (f":{name}" if name else ""))
    if len(folders) != 1:
        named = ", ".join(sorted(map(str, folders))) or "none"
        raise SettingsError(
            f"versions are of one project, and the targets are in several folders: {named}; name one module "
            "that imports the others"
        )
    return folders.pop(), inner


class VersionCode:
    """The modules of one version, from its folder. Not thread-safe: one load at a time."""

    def __init__(self, hash: str, folder: Path) -> None:
        self.package = _PREFIX + hash
        self._folder = folder

    def load(self, targets: Sequence[str]) -> Loaded:
        """The services of ``targets``, which are modules of this version. Raises SettingsError."""
        if self.package not in sys.modules:
            top = ModuleType(self.package)
            top.__path__ = [str(self._folder)]
            sys.modules[self.package] = top
            sys.meta_path.insert(0, self)
        importlib.invalidate_caches()
        try:
            loaded = load_from(list(targets), f"{self.package}.")
            if loaded.apps:
                raise SettingsError(
                    f"{loaded.apps[0].name} is an app of another SDK, which has no versions in this process; "
                    "serve it elsewhere and register it"
                )
        except SettingsError:
            self.unload()
            raise
        return loaded

    def unload(self) -> None:
        """Let the modules go. Objects that somebody still holds live on."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        for name in [each for each in sys.modules if self._is_own(each)]:
            del sys.modules[name]

    def _is_own(self, name: str) -> bool:
        return name == self.package or name.startswith(self.package + ".")

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """A finder of the import system: sources of this version get its ``import``."""
        if not self._is_own(name):
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(name, spec.loader.path, self)
        return spec

    def import_(
        self,
        name: str,
        globals: Any = None,
        locals: Any = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        """``__import__`` of this version's modules: its own first, then what is installed."""
        top = name.partition(".")[0]
        if level or not self._has(top):
            return builtins.__import__(name, globals, locals, fromlist or (), level)
        own = f"{self.package}.{name}"
        module = builtins.__import__(own, globals, locals, fromlist or ("",), 0)
        return module if fromlist else sys.modules[f"{self.package}.{top}"]

    def _has(self, top: str) -> bool:
        return (self._folder / f"{top}.py").is_file() or (self._folder / top).is_dir()


class _Loader(SourceFileLoader):
    """Runs a module with the ``import`` of its version."""

    def __init__(self, name: str, path: str, code: VersionCode) -> None:
        super().__init__(name, path)
        self._code = code

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__["__builtins__"] = vars(builtins) | {"__import__": self._code.import_}
        super().exec_module(module)
