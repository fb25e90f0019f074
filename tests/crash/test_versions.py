"""`perdure up --versions`: new code beside the old one, which ends what it began, also after a kill."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from tests.crash.server import Server

FAILED = 1
PROGRAM = """
import perdure
from words import VERSION

flow = perdure.Workflow("Flow")
echo = perdure.Service("Echo")


@flow.main()
async def run(ctx: perdure.WorkflowContext) -> str:
    await ctx.run_typed("first", lambda: "done")
    told = await ctx.promise("told", type_hint=str)
    return f"{told} from {VERSION}"


@flow.handler()
async def tell(ctx: perdure.WorkflowSharedContext, text: str) -> None:
    await ctx.promise("told", type_hint=str).resolve(text)


@echo.handler()
async def version(ctx: perdure.Context) -> str:
    return VERSION
"""


class Deployed(NamedTuple):
    """How `perdure deploy` ended."""

    exit_code: int
    output: str
    errors: str


class Project:
    """A program of two files, and a server of it."""

    def __init__(self, folder: Path) -> None:
        source = folder / "project"
        source.mkdir()
        self.program, self.words = source / "versioned_program.py", source / "words.py"
        self.program.write_text(PROGRAM)
        self.version("one")
        self.server = Server(folder / "data", self.program, flags=("--versions",))

    def version(self, name: str) -> None:
        self.words.write_text(f"VERSION = {name!r}\n")

    def deploy(self, *arguments: str) -> Deployed:
        """`perdure deploy` in a process of its own."""
        target, url = str(self.program), self.server.admin_url
        command = [sys.executable, "-m", "perdure", "deploy", target, "--url", url, *arguments]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
        return Deployed(ran.returncode, ran.stdout, ran.stderr)

    def post(self, path: str, body: object = None) -> Any:
        response = httpx.post(f"{self.server.ingress_url}/{path}", json=body, timeout=60)
        assert response.is_success, response.text
        return response.json() if response.content else None

    def begin(self, key: str) -> None:
        """A workflow that has journaled a step."""
        id = self.post(f"Flow/{key}/run/send")["invocationId"]
        url = f"{self.server.admin_url}/invocations/{id}/journal"
        while "promise" not in httpx.get(url).raise_for_status().text:
            pass

    def end(self, key: str) -> str:
        self.post(f"Flow/{key}/tell", "hello")
        url = f"{self.server.ingress_url}/restate/workflow/Flow/{key}/attach"
        return str(httpx.get(url, timeout=60).raise_for_status().json())

    def statuses(self) -> list[str]:
        """Of the versions, in order of their deployment."""
        found = httpx.get(f"{self.server.admin_url}/deployments").raise_for_status().json()
        return [
            f"{each['uri'].rpartition('/')[2][:4]} {each['status']}"
            for each in found["deployments"]
            if "code/" in each.get("uri", "")
        ]

    def copies(self) -> int:
        return len(list((self.server.data / "code").iterdir()))


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    project = Project(tmp_path)
    with project.server:
        yield project


def test_what_began_keeps_its_code_and_what_is_new_takes_the_new_one(project: Project) -> None:
    project.begin("ada")
    project.version("two")
    assert project.post("Echo/version") == "one"
    result = project.deploy()
    assert result.exit_code == 0, result.errors
    assert result.output.startswith("Deployed code ")
    assert project.post("Echo/version") == "two"
    project.begin("eve")
    assert project.end("eve") == "hello from two"
    assert project.end("ada") == "hello from one"


def test_a_restart_finds_the_old_code_although_the_project_has_changed(project: Project) -> None:
    project.begin("ada")
    project.version("two")
    assert project.deploy().exit_code == 0
    project.begin("bob")
    project.version("three")
    project.server.kill()
    project.server.start()
    assert project.post("Echo/version") == "three"
    assert project.end("ada") == "hello from one"
    assert project.end("bob") == "hello from two"


def test_versions_with_nothing_to_finish_are_forgotten(project: Project) -> None:
    project.begin("ada")
    project.version("two")
    assert project.deploy().exit_code == 0
    assert project.copies() == 2
    assert project.end("ada") == "hello from one"
    project.version("three")
    assert project.deploy().exit_code == 0
    assert project.copies() == 1
    project.server.kill()
    project.server.start()
    assert project.copies() == 1
    assert len(project.statuses()) == 1
    assert project.statuses()[0].endswith(" active")


def test_a_paused_invocation_is_moved_to_another_version_by_hand(project: Project) -> None:
    project.begin("ada")
    project.version("two")
    id = json.loads(project.deploy("--json").output)["deployment_id"]
    listed = httpx.get(f"{project.server.admin_url}/invocations", params={"service": "Flow"})
    url = f"{project.server.admin_url}/invocations/{listed.json()['invocations'][0]['id']}"
    assert httpx.patch(f"{url}/pause").is_success
    while httpx.get(url).json()["status"] != "paused":
        pass
    moved = httpx.patch(f"{url}/resume", params={"deployment": id})
    assert moved.is_success, moved.text
    assert project.end("ada") == "hello from two"


def test_new_code_declares_its_schedules(project: Project) -> None:
    schedules = f"{project.server.admin_url}/schedules"
    assert httpx.get(schedules).json()["schedules"] == []
    line = "@echo.handler()"
    scheduled = PROGRAM.replace(
        line, f'@perdure.schedule(name="nightly", cron="0 3 * * *")\n{line}'
    )
    project.program.write_text(scheduled)
    result = project.deploy()
    assert result.exit_code == 0, result.errors
    assert [each["name"] for each in httpx.get(schedules).json()["schedules"]] == ["nightly"]


def test_a_change_back_is_the_old_version_again(project: Project) -> None:
    project.begin("ada")
    project.version("two")
    assert project.deploy().exit_code == 0
    project.version("one")
    found = json.loads(project.deploy("--json").output)
    assert found["is_new"]
    assert project.post("Echo/version") == "one"
    assert project.copies() == 1
    assert not json.loads(project.deploy("--json").output)["is_new"]
    assert project.end("ada") == "hello from one"


def test_code_that_would_break_what_is_in_flight_is_let_in_by_force_alone(project: Project) -> None:
    project.begin("ada")
    project.program.write_text(PROGRAM.replace('"first"', '"other"'))
    project.version("two")
    refused = project.deploy()
    assert refused.exit_code == FAILED
    assert "recorded: run 'first'" in refused.output
    assert project.post("Echo/version") == "one"
    assert project.deploy("--force").exit_code == 0
    assert project.post("Echo/version") == "two"
    assert project.end("ada") == "hello from one"


def test_code_that_can_not_be_loaded_changes_nothing(project: Project) -> None:
    project.words.write_text("VERSION = 1 / 0\n")
    answer = httpx.post(f"{project.server.admin_url}/code", json={})
    assert answer.status_code == 400
    assert "words.py:1: ZeroDivisionError" in answer.text
    assert project.post("Echo/version") == "one"


def test_other_code_than_was_checked_is_refused(project: Project) -> None:
    answer = httpx.post(f"{project.server.admin_url}/code", json={"expected": "0" * 32})
    assert answer.status_code == 409
    assert "which was checked" in answer.text
