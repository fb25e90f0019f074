"""A program of two files, whose code changes while it is served with `--versions`. No test is here."""

import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from tests.crash.server import Server

FAILED = 1
FLOW = """
import os

import perdure
from words import VERSION

flow = perdure.Workflow("Flow")


@flow.main()
async def run(ctx: perdure.WorkflowContext) -> str:
    await ctx.run_typed("first", lambda: "done")
    told = await ctx.promise("told", type_hint=str)
    return f"{told} from {VERSION}"


@flow.handler()
async def tell(ctx: perdure.WorkflowSharedContext, text: str) -> None:
    await ctx.promise("told", type_hint=str).resolve(text)
"""


class Deployed(NamedTuple):
    """How a command ended."""

    exit_code: int
    output: str
    errors: str


class Versioned:
    """``program``: its text, which begins with FLOW. A context: the server runs in it."""

    def __init__(self, folder: Path, program: str, *flags: str) -> None:
        source = folder / "project"
        source.mkdir()
        self.program, self.words = source / "versioned_program.py", source / "words.py"
        self.program.write_text(program)
        self.version("one")
        self.server = Server(folder / "data", self.program, flags=("--versions", *flags))
        self.client = httpx.Client(timeout=60, trust_env=False)

    def __enter__(self) -> None:
        self.server.__enter__()

    def __exit__(self, *error: Any) -> None:
        self.client.close()
        self.server.__exit__(*error)

    def version(self, name: str) -> None:
        self.words.write_text(f"VERSION = {name!r}\n")

    def perdure(self, *arguments: str) -> Deployed:
        """A command in a process of its own."""
        command = [sys.executable, "-m", "perdure", *arguments]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
        return Deployed(ran.returncode, ran.stdout, ran.stderr)

    def deploy(self, *arguments: str) -> Deployed:
        url = self.server.admin_url
        return self.perdure("deploy", str(self.program), "--url", url, *arguments)

    def post(self, path: str, body: object = None) -> Any:
        response = self.client.post(f"{self.server.ingress_url}/{path}", json=body)
        assert response.is_success, response.text
        return response.json() if response.content else None

    def begin(self, key: str) -> None:
        """A workflow that has journaled a step."""
        id = self.post(f"Flow/{key}/run/send")["invocationId"]
        url = f"{self.server.admin_url}/invocations/{id}/journal"
        while "promise" not in self.client.get(url).raise_for_status().text:
            pass

    def end(self, key: str) -> str:
        self.post(f"Flow/{key}/tell", "hello")
        url = f"{self.server.ingress_url}/restate/workflow/Flow/{key}/attach"
        return str(self.client.get(url).raise_for_status().json())

    def copies(self) -> int:
        return sum(each.is_dir() for each in (self.server.data / "code").iterdir())
