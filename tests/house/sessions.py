"""Follows the console blocks of a document: real servers on free ports in place of the usual ones.

A command that is not known here raises, so that no document shows what nobody has tried.
"""

import os
import shlex
import subprocess
import sys
from pathlib import Path
from types import TracebackType

import httpx

from tests.crash.server import Server
from tests.house.documents import ROOT

INGRESS = "localhost:8080"
SET_UP = ("python3 -m venv ", ".venv/bin/pip install ", "pip install ", ".venv/bin/pytest", ".ci/")
_PATIENCE_S = 120.0


class Session:
    """The commands of one document, in the directory ``folder`` with the files that it names."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._server: Server | None = None
        self._urls: dict[str, str] = {}

    def __enter__(self) -> "Session":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def run(self, line: str) -> str:
        """What the command writes on standard output. Raises where it fails."""
        words = shlex.split(line.removeprefix(".venv/bin/"), comments=True)
        match words:
            case ["perdure", "up", target, "&"]:
                self._up(target, "perdure-data")
            case ["perdure", "up", target, "--data", data, "&"]:
                self._up(target, data)
            case ["kill", "-9", "%%"]:
                assert self._server is not None, "nothing runs"
                self._server.kill()
            case ["kill", "%%"]:
                assert self._server is not None, "nothing runs"
                assert self._server.stop() == 0
            case ["curl", url]:
                return self._curl("GET", url, None)
            case ["curl", url, "--json", body]:
                return self._curl("POST", url, body)
            case ["perdure", *arguments]:
                return self._python("-m", "perdure", *arguments)
            case ["python", file]:
                return self._python(str(self._find(file)))
            case _:
                raise AssertionError(f"a document shows a command that no test can follow: {line}")
        return ""

    def _up(self, target: str, data: str) -> None:
        """Starts again where the same one was killed; ends another one."""
        self._end()
        self._server = Server(self._folder / data, self._find(target))
        self._server.start()
        self._urls = {
            "PERDURE_INGRESS_URL": self._server.ingress_url,
            "PERDURE_ADMIN_URL": self._server.admin_url,
        }

    def _end(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def _curl(self, method: str, url: str, body: str | None) -> str:
        assert url.startswith(INGRESS), f"{url} is not of {INGRESS}"
        address = self._urls["PERDURE_INGRESS_URL"] + url.removeprefix(INGRESS)
        headers = {} if body is None else {"content-type": "application/json"}
        answer = httpx.request(method, address, content=body, headers=headers, timeout=_PATIENCE_S)
        return answer.text

    def _python(self, *arguments: str) -> str:
        ran = subprocess.run(
            [sys.executable, *arguments],
            cwd=self._folder,
            env=os.environ | self._urls,
            capture_output=True,
            text=True,
            timeout=_PATIENCE_S,
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout

    def _find(self, name: str) -> Path:
        """A file of the document, else one of the project."""
        own = self._folder / name
        return own if own.exists() else ROOT / name
