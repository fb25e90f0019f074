"""Files that are on disk when a call returns: written, replaced as a whole, or only synced.

Knows nothing of what is in them. Everything raises OSError. Rule: leveldb 0 (a rename is durable once its
directory is synced).
"""

import os
from pathlib import Path


def write_file(path: Path, content: bytes) -> None:
    """Make or overwrite a file, for its owner alone; that it is there is durable with its directory."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(fd)


def replace_file(path: Path, content: bytes, *, sync_directory: bool = True) -> None:
    """Put ``content`` in the place of a file: after a crash there is the old one or the new one."""
    temporary = path.with_name(path.name + ".tmp")
    write_file(temporary, content)
    temporary.rename(path)
    if sync_directory:
        sync_path(path.parent)


def sync_path(path: Path) -> None:
    """Make one file or directory durable that somebody else wrote."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_tree(root: Path) -> None:
    """Make everything below ``root`` durable, and that it is there."""
    for parent, _, names in os.walk(root):
        for name in names:
            sync_path(Path(parent, name))
        sync_path(Path(parent))
    sync_path(root.parent)
