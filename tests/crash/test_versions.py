"""`perdure up --versions`: new code beside the old one, which ends what it began, also after a kill."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.crash.versioned import FAILED, FLOW, Versioned

PROGRAM = (
    FLOW
    + """
echo = perdure.Service("Echo")


@echo.handler()
async def version(ctx: perdure.Context) -> str:
    return VERSION
"""
)


class Project(Versioned):
    def statuses(self) -> list[str]:
        """Of the versions, in order of their deployment."""
        found = self.client.get(f"{self.server.admin_url}/deployments").raise_for_status().json()
        return [
            f"{each['uri'].rpartition('/')[2][:4]} {each['status']}"
            for each in found["deployments"]
            if "code/" in each.get("uri", "")
        ]


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    project = Project(tmp_path, PROGRAM)
    with project:
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
