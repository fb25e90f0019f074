"""The source trees of versions that invocations may be pinned to: `DATA/code/HASH`, written once.

A tree is copied before its version is let in, so that a restart finds what its invocations began with,
whatever became of the project meanwhile. Knows files and hashes, not modules. docs/code-versions.md.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from perdure.gateway.settings import SettingsError
from perdure.journal.durable import replace_file, sync_path, write_file
from perdure.journal.errors import StoreError

HASH_CHARS: Final = 32
_MOST_FILES: Final = 5_000
_MOST_BYTES: Final = 64 << 20
_LEFT_OUT: Final = frozenset({"__pycache__", "site-packages", "dist-packages", "node_modules"})
_NO_SOURCES: Final = frozenset({"pyvenv.cfg", "owner.lock", "PARTITIONS"})  # environments, data
_UNFINISHED: Final = ".new-"
_MARK: Final = "registered"


class VersionStore:
    """The copies in one data directory, whose lock the caller holds. Blocking."""

    def __init__(self, data: str | os.PathLike[str]) -> None:
        self._data = Path(data).resolve()
        self._folder = self._data / "code"

    def folder(self, hash: str) -> Path:
        """Where the copy of a version is, or would be."""
        return self._folder / hash

    def take(self, project: Path) -> str:
        """Copy a project's tree, durably; the hash of what was copied.

        Raises SettingsError for a folder that is too large to be a project, StoreError.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            copy = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=self._folder))
            try:
                return self._keep(copy, self._copied(project, copy))
            finally:
                shutil.rmtree(copy, ignore_errors=True)
        except OSError as e:
            raise StoreError(
                f"the code in {project} cannot be copied to {self._folder}: {e}"
            ) from e

    def _copied(self, project: Path, copy: Path) -> str:
        whole = hashlib.sha256()
        for name, content in _iter_contents(project, self._data):
            _add(whole, name, content)
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            write_file(copy / name, content)
        return whole.hexdigest()[:HASH_CHARS]

    def _keep(self, copy: Path, hash: str) -> str:
        kept = self.folder(hash)
        if not kept.is_dir():
            for folder, _, _ in os.walk(copy):
                sync_path(Path(folder))
            copy.rename(kept)
            sync_path(self._folder)
            sync_path(self._data)
        return hash

    def mark(self, start: str) -> None:
        """Remember, durably, that a start of `perdure up` has registered its version. Raises StoreError."""
        try:
            replace_file(self._folder / _MARK, start.encode())
        except OSError as e:
            raise StoreError(f"{self._folder} cannot be written: {e}") from e

    def is_marked(self, start: str) -> bool:
        """Whether ``mark`` was called last with this start. Raises StoreError."""
        try:
            return (self._folder / _MARK).read_bytes() == start.encode()
        except FileNotFoundError:
            return False
        except OSError as e:
            raise StoreError(f"{self._folder} cannot be read: {e}") from e

    def sweep(self, known: set[str]) -> None:
        """Forget every copy that is not of a known version: of a crash in between."""
        if self._folder.is_dir():
            for each in list(self._folder.iterdir()):
                if each.name not in known and each.is_dir():
                    shutil.rmtree(each, ignore_errors=True)


def digest(project: Path) -> str:
    """The hash of a project's tree as ``VersionStore.take`` gives it. Raises SettingsError."""
    whole = hashlib.sha256()
    try:
        for name, content in _iter_contents(project, None):
            _add(whole, name, content)
    except OSError as e:
        raise SettingsError(f"the code in {project} cannot be read: {e}") from e
    return whole.hexdigest()[:HASH_CHARS]


def _add(whole: "hashlib._Hash", name: Path, content: bytes) -> None:
    for part in (os.fsencode(name), content):
        whole.update(len(part).to_bytes(8, "big") + part)


def _iter_contents(project: Path, data: Path | None) -> Iterator[tuple[Path, bytes]]:
    """The files of a project by name, in order. Raises SettingsError where they are too many, OSError."""
    size = 0
    for number, path in enumerate(sorted(_iter_files(project, data))):
        content = path.read_bytes()
        size += len(content)
        if number >= _MOST_FILES or size > _MOST_BYTES:
            raise SettingsError(
                f"{project} has more than {_MOST_FILES} files or {_MOST_BYTES >> 20} MiB, so it can't be "
                "kept for each version; put the code in a folder of its own"
            )
        yield path.relative_to(project), content


def _iter_files(project: Path, data: Path | None) -> Iterator[Path]:
    """Without hidden files, environments and data directories."""
    for folder, folders, files in os.walk(project):
        if not _NO_SOURCES.isdisjoint(files) or Path(folder) == data:
            folders.clear()
            continue
        folders[:] = [each for each in folders if each not in _LEFT_OUT and each[0] != "."]
        for each in files:
            path = Path(folder, each)
            if each[0] != "." and path.is_file():
                yield path
