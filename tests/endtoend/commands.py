"""Runs `perdure` as a process and hands back what it wrote and how it ended."""

import select
import tempfile
from pathlib import Path
from typing import Any

import msgspec

from tests.crash.server import PATIENCE_S, Launch


class Finished(msgspec.Struct, frozen=True):
    code: int
    stdout: str
    stderr: str

    def json(self) -> Any:
        return msgspec.json.decode(self.stdout)


def run(
    launch: Launch,
    directory: Path,
    *arguments: str | Path,
    stdin: bytes = b"",
    environ: dict[str, str] | None = None,
) -> Finished:
    """Run to the end. Fails where it takes too long; a server that starts is such a case."""
    with (
        tempfile.TemporaryFile() as given,
        tempfile.TemporaryFile() as out,
        tempfile.TemporaryFile() as err,
    ):
        given.write(stdin)
        given.seek(0)
        fds = given.fileno(), out.fileno(), err.fileno()
        process = launch([str(each) for each in arguments], environ or {}, directory, fds)
        ended, _, _ = select.select([process.pidfd], [], [], PATIENCE_S)
        assert ended, f"perdure {arguments} does not end"
        code = process.wait()
        out.seek(0)
        err.seek(0)
        return Finished(code, out.read().decode(), err.read().decode())
