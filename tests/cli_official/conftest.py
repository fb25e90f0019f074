"""The official `restate` command line tool, run against a real server.

It is found through RESTATE_CLI, else on the PATH; without it these tests are skipped.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from tests.crash.server import Server
from tests.gateway.sql.conftest import PROGRAM, Filled, fill

PATIENCE_S = 60
_LISTENING = re.compile(r"http://127\.0\.0\.1:(\d+)")


class Done(msgspec.Struct, frozen=True):
    code: int
    stdout: str
    stderr: str

    @property
    def said(self) -> str:
        return self.stdout + self.stderr


Restate = Callable[..., Done]


def binary() -> str:
    found = os.environ.get("RESTATE_CLI") or shutil.which("restate")
    if not found:
        pytest.skip(
            "the official command line tool is not here: set RESTATE_CLI, or have it on the PATH"
        )
    return found


def runner(admin_url: str, home: Path) -> Restate:
    tool = binary()

    def run(*arguments: str, code: int = 0, editor: str | None = None) -> Done:
        """Its output, after a check of the exit code. ``editor``: what it opens files with."""
        environ = {
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(home),
            "RESTATE_ADMIN_URL": admin_url,
            "RESTATE_CLI_CONFIG_HOME": str(home),
            "CI": "true",
            "NO_COLOR": "1",
            "DO_NOT_TRACK": "1",
            "COLUMNS": "300",
        }
        if editor is not None:
            environ["EDITOR"] = environ["VISUAL"] = editor
        ended = subprocess.run(
            [tool, *arguments], capture_output=True, text=True, timeout=PATIENCE_S, env=environ
        )
        done = Done(ended.returncode, ended.stdout, ended.stderr)
        assert done.code == code, f"{arguments}: exit code {done.code}\n{done.said}"
        return done

    return run


@pytest.fixture(scope="module")
def filled(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Filled]:
    """A server of its own for each file, with an invocation in every state."""
    binary()
    flags = getattr(request.module, "SERVER_FLAGS", ())
    data = tmp_path_factory.mktemp("official") / "data"
    with Server(data, PROGRAM, flags=flags) as server:
        yield fill(server)


@pytest.fixture
def restate(filled: Filled, tmp_path: Path) -> Restate:
    return runner(filled.server.admin_url, tmp_path)


class Endpoint:
    """`perdure serve` with one program, on a port of its own."""

    def __init__(self, program: Path, port: int = 0) -> None:
        command = [sys.executable, "-m", "perdure", "serve", str(program), "--port", str(port)]
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        self.port = self._await_port()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def _await_port(self) -> int:
        assert self._process.stdout is not None
        said = ""
        for line in self._process.stdout:
            said += line
            found = _LISTENING.search(line)
            if found:
                return int(found[1])
        raise AssertionError(f"the endpoint does not serve; it said: {said}")

    def __enter__(self) -> "Endpoint":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(PATIENCE_S)
        assert self._process.stdout is not None
        self._process.stdout.close()
