"""Which source files a target is made of: its own, and those that it imported from the same project.

Knows modules and paths. Loading is in gateway/targets.py, watching in gateway/reload.py.
"""

import os
import sys
import sysconfig
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Final, TypeAlias

from perdure.gateway.targets import parse_target

MOST_FILES: Final = 10_000
_INSTALLED: Final = ("site-packages", "dist-packages")
_OURS: Final = "perdure"

Signature: TypeAlias = dict[str, tuple[int, int, int] | None]


def folders_of(targets: Iterable[str]) -> list[Path]:
    """The projects' folders: where a target's file is, where a target's topmost package is."""
    folders = set()
    for target in targets:
        where, _, is_file = parse_target(target)
        if is_file:
            folders.add(Path(where).resolve().parent)
            continue
        folders.add(Path.cwd())
        top = getattr(sys.modules.get(where.partition(".")[0]), "__file__", None)
        if top is not None:
            path = Path(top).resolve()
            folders.add(path.parent.parent if path.name == "__init__.py" else path.parent)
    return sorted(folders)


def target_paths(targets: Iterable[str]) -> list[str]:
    """Where the targets' own files are or should be; of modules, the folder to look from."""
    return [
        str(Path(where).resolve() if is_file else Path.cwd())
        for where, _, is_file in map(parse_target, targets)
    ]


def files_of(targets: Iterable[str]) -> list[str]:
    """The files of the modules that are loaded now and belong to the targets' projects."""
    targets = list(targets)
    folders = folders_of(targets)
    found = set(target_paths(targets))
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file is not None and name.partition(".")[0] != _OURS:
            found.add(str(Path(file).resolve()))
    return sorted(each for each in found if _is_own(Path(each), folders))[:MOST_FILES]


def files_in(error: BaseException, targets: Iterable[str]) -> list[str]:
    """The projects' files that an error came through; modules that can't be imported are not loaded."""
    folders = folders_of(targets)
    found: set[str] = set()
    each: BaseException | None = error
    while each is not None:
        found.update(frame.filename for frame in traceback.extract_tb(each.__traceback__))
        if isinstance(each, SyntaxError) and each.filename:
            found.add(each.filename)
        each = each.__cause__ or each.__context__
    paths = (Path(each).resolve() for each in found)
    return sorted(str(path) for path in paths if _is_own(path, folders))


def _is_own(path: Path, folders: list[Path]) -> bool:
    """Whether a file is in one of the folders, but not in an environment or a hidden folder there."""
    standard = sysconfig.get_path("stdlib")
    if path.is_relative_to(standard) or not path.is_file():
        return False
    for folder in folders:
        if path.is_relative_to(folder):
            inner = path.relative_to(folder).parts
            if not any(part.startswith(".") or part in _INSTALLED for part in inner):
                return not any(part in _INSTALLED for part in path.parts)
    return False


def signature(paths: Iterable[str]) -> Signature:
    """What tells one content from another without reading it: time, size, inode; None: not there."""
    found: Signature = {}
    for path in paths:
        try:
            stat = os.stat(path)
        except OSError:
            found[path] = None
        else:
            found[path] = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
    return found


def changed(old: Signature, new: Signature) -> list[str]:
    """Paths that are in both, and differ."""
    return sorted(path for path in new if path in old and old[path] != new[path])
