"""`perdure up --versions --system processes`: a version is let in by all partitions or by none."""

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest

from tests.crash.versioned import FAILED, FLOW, Versioned

PROGRAM = (
    FLOW
    + """
box = perdure.VirtualObject("Box")


@box.handler()
async def version(ctx: perdure.ObjectContext) -> str:
    return VERSION


@box.handler()
async def where(ctx: perdure.ObjectContext) -> int:
    return os.getpid()
"""
)
KEYS = [f"key-{number}" for number in range(8)]
MANY = ("--system", "processes", "--partitions", "2", "--gateways", "2")
IMPATIENT = ("--set", "supervisor.restart_intensity=1", "--set", "supervisor.restart_window=4s")


class Project(Versioned):
    """Served by a tree of processes."""

    def __init__(self, folder: Path, *flags: str) -> None:
        super().__init__(folder, PROGRAM, *MANY, *flags)

    def take(self) -> httpx.Response:
        """What `perdure deploy` asks for after its check."""
        return self.client.post(f"{self.server.admin_url}/code", json={})

    def take_if_it_answers(self) -> int | None:
        """The status of ``take``; None where the gateway died."""
        try:
            return self.take().status_code
        except httpx.TransportError:
            return None

    def versions(self) -> set[str]:
        """By which all keys, in both partitions, are served."""
        return {self.post(f"Box/{key}/version") for key in KEYS}

    def worker(self, name: str) -> Any:
        tree = self.client.get(f"{self.server.admin_url}/tree").raise_for_status().json()
        return next(each for each in tree["processes"]["workers"] if each["name"] == name)

    def kill(self, name: str) -> None:
        """SIGKILL; returns when the worker is up again."""
        pid = self.worker(name)["pid"]
        os.kill(pid, signal.SIGKILL)
        self.await_another(name, pid)

    def await_another(self, name: str, pid: int) -> None:
        """Until a worker is up in another process."""
        while True:
            try:
                now = self.worker(name)
            except httpx.TransportError:  # it is the one whom we ask
                continue
            if now["pid"] not in (0, pid) and now["state"] == "up":
                return


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    project = Project(tmp_path, *IMPATIENT)
    with project:
        yield project


def test_every_partition_keeps_what_began_and_takes_what_is_new(project: Project) -> None:
    for key in KEYS:
        project.begin(key)
    project.version("two")
    assert project.versions() == {"one"}
    result = project.deploy()
    assert result.exit_code == 0, result.errors
    assert project.versions() == {"two"}
    assert [project.end(key) for key in KEYS[:4]] == ["hello from one"] * 4
    project.begin("eve")
    assert project.end("eve") == "hello from two"
    project.version("three")  # of which nobody says a word to the server
    project.kill("partition-0")
    project.kill("partition-1")
    assert project.versions() == {"two"}
    assert [project.end(key) for key in KEYS[4:]] == ["hello from one"] * 4


def test_a_start_finds_every_version_that_has_something_to_finish(project: Project) -> None:
    project.begin("ada")
    project.version("two")
    assert project.take().status_code == 201
    project.begin("bob")
    project.version("three")
    project.server.kill()
    project.server.start()
    assert project.versions() == {"three"}
    assert project.end("ada") == "hello from one"
    assert project.end("bob") == "hello from two"
    project.version("four")
    assert project.take().status_code == 201
    assert project.versions() == {"four"}
    assert project.copies() == 2  # that of the start stays while the tree does
    listed = project.client.get(f"{project.server.admin_url}/deployments").json()["deployments"]
    assert len([each for each in listed if "code/" in each.get("uri", "")]) == 1


def test_a_version_stays_while_one_partition_has_something_to_finish(project: Project) -> None:
    for key in KEYS:
        project.begin(key)
    project.version("two")
    assert project.take().status_code == 201
    assert [project.end(key) for key in KEYS[:-1]] == ["hello from one"] * (len(KEYS) - 1)
    project.version("three")
    assert project.take().status_code == 201
    project.kill("partition-0")
    project.kill("partition-1")
    assert project.end(KEYS[-1]) == "hello from one"


def test_the_first_gateway_that_starts_again_changes_no_version(project: Project) -> None:
    project.begin("ada")
    project.version("two")
    assert project.take().status_code == 201
    project.kill("gateway-0")
    assert project.versions() == {"two"}
    project.version("three")
    assert project.take().status_code == 201
    assert project.versions() == {"three"}
    assert project.end("ada") == "hello from one"


def test_code_that_one_partition_can_not_load_is_let_in_nowhere(project: Project) -> None:
    project.words.write_text(
        "name = open('/proc/self/comm').read()\nVERSION = 1 // ('partition-1' not in name) or 'two'\n"
    )
    answer = project.take()
    assert answer.status_code == 400
    assert "partition-1: " in answer.text
    assert "words.py:2: ZeroDivisionError" in answer.text
    assert project.versions() == {"one"}


def test_a_partition_that_dies_of_the_new_code_keeps_it_out(project: Project) -> None:
    project.words.write_text(
        "import os\nif 'partition-1' in open('/proc/self/comm').read():\n    os._exit(3)\nVERSION = 'two'\n"
    )
    answer = project.take()
    assert answer.status_code == 503
    assert "partition-1 ended while it loaded the code" in answer.text
    project.version("three")
    assert project.versions() == {"one"}
    while project.worker("partition-1")["state"] != "up":
        pass
    assert project.take().status_code == 201
    assert project.versions() == {"three"}


def test_a_partition_that_is_down_is_told_at_once_and_no_code_is_let_in_without_it(
    project: Project,
) -> None:
    pid, store = project.worker("partition-1")["pid"], project.server.data / "partition-001"
    lost = [key for key in KEYS if project.post(f"Box/{key}/where") == pid]
    kept = [key for key in KEYS if key not in lost]
    assert lost
    assert kept
    current = next(store.rglob("CURRENT"))
    good = current.read_bytes()
    current.write_bytes(b"nothing\n")
    os.kill(pid, signal.SIGKILL)
    while project.worker("partition-1")["state"] != "down":
        pass
    for gateway in range(2 * len(lost)):  # whichever gateway takes the connection
        url = f"{project.server.ingress_url}/Box/{lost[gateway % len(lost)]}/version"
        answer = httpx.post(url, timeout=10, trust_env=False)  # it is not held for 30 s
        assert answer.status_code == 503
        assert "partition-1 is down" in answer.text
        assert "CURRENT" in answer.text
        assert int(answer.headers["retry-after"]) > 0
    assert {project.post(f"Box/{key}/version") for key in kept} == {"one"}
    project.version("two")
    refused = project.take()
    assert refused.status_code == 503
    assert "partition-1 is down" in refused.text
    assert {project.post(f"Box/{key}/version") for key in kept} == {"one"}
    current.write_bytes(good)
    while project.worker("partition-1")["state"] != "up":
        pass
    assert project.versions() == {"one"}
    assert project.take().status_code == 201
    assert project.versions() == {"two"}


def test_new_code_is_checked_against_the_journals_of_all_partitions(project: Project) -> None:
    for key in KEYS:
        project.begin(key)
    project.program.write_text(PROGRAM.replace('"first"', '"other"'))
    project.version("two")
    url = project.server.admin_url
    checked = project.perdure("check", str(project.program), "--against", url)
    assert checked.exit_code == FAILED
    assert f"Flow/run: {len(KEYS)} of {len(KEYS)} would break" in checked.output
    refused = project.deploy()
    assert refused.exit_code == FAILED
    assert project.versions() == {"one"}


def test_new_code_declares_its_schedules_and_they_stay(project: Project) -> None:
    schedules = f"{project.server.admin_url}/schedules"

    def names() -> list[str]:
        found = project.client.get(schedules).raise_for_status().json()["schedules"]
        return sorted(each["name"] for each in found)

    lines = PROGRAM.replace(
        "@flow.main()",
        """
door = perdure.Service("Door")


@perdure.schedule(name="nightly", cron="0 3 * * *")
@perdure.schedule(name="daily", cron="0 6 * * *")
@perdure.schedule(name="hourly", cron="0 * * * *")
@door.handler()
async def tick(ctx: perdure.Context) -> None: ...


@flow.main()""",
    )
    project.program.write_text(lines)
    assert project.take().status_code == 201
    assert names() == ["daily", "hourly", "nightly"]
    project.program.write_text(
        lines.replace('@perdure.schedule(name="daily", cron="0 6 * * *")', "")
    )
    assert project.take().status_code == 201
    assert names() == ["hourly", "nightly"]
    project.kill("partition-0")
    project.kill("partition-1")
    assert names() == ["hourly", "nightly"]


@pytest.mark.parametrize("name", ["gateway-0", "partition-1"])
def test_whoever_dies_while_code_is_let_in_it_is_the_same_everywhere(
    tmp_path: Path, name: str
) -> None:
    chance = Random(name)
    project = Project(tmp_path)
    with project:
        for number in range(4):
            project.version(f"v{number}")
            pid = project.worker(name)["pid"]
            timer = threading.Timer(chance.uniform(0.0, 0.2), os.kill, (pid, signal.SIGKILL))
            timer.start()
            answer = project.take_if_it_answers()
            timer.join()
            project.await_another(name, pid)
            found = project.versions()
            assert len(found) == 1
            if answer is not None:
                assert answer in (201, 503)
                assert (found == {f"v{number}"}) is (answer == 201)
