"""What a power cut leaves, computed: a traced writer's files with only the bytes that it had synced.

The model: directory changes (create, rename, link, unlink) last at once, in order, as on a journaling
file system; bytes last when their file is synced, and are gone otherwise. No root is needed.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

CALLS = "openat,write,fsync,fdatasync,rename,unlink,rmdir,mkdir,link,ftruncate"
_LINE = re.compile(r"(\d+\.\d+) (\w+)\((.*)\) += (-?\d+).*<(\d+\.\d+)>$")
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_FD = re.compile(r"^(\d+)<((?:\\x[0-9a-f]{2})*)")


class Call(NamedTuple):
    ended: float
    name: str
    args: str
    result: int


class _File:
    def __init__(self) -> None:
        self.content = b""
        self.synced = 0


def trace(command: list[str], directory: Path) -> list[Call]:
    """Run ``command`` to its end; its file calls in the order in which they ended."""
    directory.mkdir()
    strace = ["strace", "-ff", "-ttt", "-T", "-y", "-xx", "-s", "10000000", "-e", f"trace={CALLS}"]
    subprocess.run(
        [*strace, "-o", str(directory / "t"), *command], check=True, stdout=subprocess.DEVNULL
    )
    calls = []
    for thread in directory.iterdir():
        for line in thread.read_text().splitlines():
            if match := _LINE.match(line):
                began, name, args, result, took = match.groups()
                calls.append(Call(float(began) + float(took), name, args, int(result)))
    return sorted(calls)


def cuts(calls: list[Call], root: Path) -> Iterator[tuple[list[int], Callable[[Path], None]]]:
    """After each call that changed something: the positions reported by then, and how to lay out
    what a power cut would have left of ``root`` at another path."""
    files: dict[Path, _File] = {}
    directories: set[Path] = {root}
    reported: list[int] = []

    def lay_out(target: Path) -> None:
        for directory in sorted(directories):
            (target / directory.relative_to(root)).mkdir(parents=True, exist_ok=True)
        for path, file in files.items():
            (target / path.relative_to(root)).write_bytes(file.content[: file.synced])

    for call in calls:
        if call.result >= 0 and _apply(call, root, files, directories, reported):
            yield list(reported), lay_out


def _apply(
    call: Call,
    root: Path,
    files: dict[Path, _File],
    directories: set[Path],
    reported: list[int],
) -> bool:
    strings = [_text(s) for s in _STRING.findall(call.args)]
    paths = [Path(s.decode(errors="replace")) for s in strings]
    if call.name in ("write", "fsync", "fdatasync", "ftruncate"):
        fd, path = _fd(call.args)
        if fd == 1 and call.name == "write":
            reported += [int(line) for line in strings[0].split() if line.isdigit()]
            return True
        file = files.get(path)
        if file is None:
            return False
        if call.name == "write":
            file.content += strings[0][: call.result]
        elif call.name == "ftruncate":
            file.content, file.synced = b"", 0
        else:
            file.synced = len(file.content)
        return True
    if not paths or not paths[0].is_relative_to(root):
        return False
    if call.name == "openat":
        if "O_CREAT" in call.args and (paths[0] not in files or "O_TRUNC" in call.args):
            files[paths[0]] = _File()
    elif call.name == "mkdir":
        directories.add(paths[0])
    elif call.name == "link":
        files[paths[1]] = files[paths[0]]
    elif call.name == "rename":
        files[paths[1]] = files.pop(paths[0])
    elif call.name == "unlink":
        files.pop(paths[0], None)
    elif call.name == "rmdir":
        directories.discard(paths[0])
    return True


def _text(escaped: str) -> bytes:
    return bytes.fromhex(escaped.replace("\\x", ""))


def _fd(args: str) -> tuple[int, Path]:
    match = _FD.match(args)
    if match is None:
        return -1, Path()
    return int(match[1]), Path(_text(match[2]).decode(errors="replace"))


def record(writer: Path, data: Path, scratch: Path, *flags: str) -> list[Call]:
    """The calls of one run of ``store_writer.py`` on ``data``."""
    calls = trace([sys.executable, str(writer), str(data), *flags], scratch)
    shutil.rmtree(data)
    return calls
