"""A disk that can be frozen: ext4 in an image on XFS, whose clones are the disk at one instant.

Facts sheet 7.5. Needs root, loop devices, and the tools of both file systems.
"""

import fcntl
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

_FICLONE = 0x40049409  # ioctl: share all blocks of another file, atomically
_OUTER_BYTES = 2 << 30  # sparse
_INNER_BYTES = 64 << 20
_TOOLS = ("mkfs.xfs", "mkfs.ext4", "mount", "umount")


class NoDisk(Exception):
    """Why this machine cannot make such a disk."""


class Disk:
    """``path`` is where the inner file system is mounted."""

    def __init__(self, path: Path, image: Path) -> None:
        self.path = path
        self._image = image
        self._clones = 0

    @contextmanager
    def frozen(self, clone: Path) -> Iterator[Path]:
        """``clone``, made by ``clone``, mounted: what a machine finds when power is back."""
        path = clone.with_suffix(".mounted")
        path.mkdir()
        _run("mount", "-o", "loop", str(clone), str(path))
        try:
            yield path
        finally:
            _run("umount", str(path))

    def clone(self) -> Path:
        """The disk at this instant, in a new file."""
        self._clones += 1  # never over an old file: it might still be mounted
        path = self._image.with_name(f"clone-{self._clones}")
        with path.open("wb") as new, self._image.open("rb") as image:
            fcntl.ioctl(new, _FICLONE, image.fileno())
        return path


@contextmanager
def disk(scratch: Path, size_bytes: int = _INNER_BYTES) -> Iterator[Disk]:
    """A fresh disk below ``scratch``. Raises NoDisk where this machine cannot make one."""
    if missing := [tool for tool in _TOOLS if shutil.which(tool) is None]:
        raise NoDisk(f"no {', '.join(missing)} here")
    outer, inner = scratch / "outer", scratch / "inner"
    with ExitStack() as stack:
        try:
            for path, image, size, make in (
                (outer, scratch / "outer.img", _OUTER_BYTES, ["mkfs.xfs", "-q", "-m", "reflink=1"]),
                (inner, outer / "disk.img", size_bytes, ["mkfs.ext4", "-q"]),
            ):
                with image.open("wb") as file:
                    file.truncate(size)
                _run(*make, str(image))
                path.mkdir()
                _run("mount", "-o", "loop", str(image), str(path))
                stack.callback(_run, "umount", str(path))
        except subprocess.CalledProcessError as e:
            raise NoDisk(f"{e.cmd[0]}: {e.stderr.decode(errors='replace').strip()}") from e
        yield Disk(inner, outer / "disk.img")


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
