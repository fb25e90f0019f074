"""`perdure up --system processes` as a user meets it: one server, although it is many processes."""

import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.crash.server import DidNotStart, Server
from tests.endtoend.test_hosted_apps import OFFICIAL

PROGRAM = """
import os
import perdure

box = perdure.VirtualObject("Box")
door = perdure.Service("Door")


@box.handler()
async def add(ctx: perdure.ObjectContext, number: int) -> int:
    total = (await ctx.get("total", type_hint=int) or 0) + number
    ctx.set("total", total)
    return total


@box.handler(kind="shared")
async def where(ctx: perdure.ObjectSharedContext) -> int:
    return os.getpid()


@door.handler()
async def through(ctx: perdure.Context, key: str) -> int:
    return await ctx.object_call(add, key=key, arg=1)
"""
MANY = ("--system", "processes", "--partitions", "2", "--gateways", "2")
KEYS = [f"key-{number}" for number in range(8)]


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return path


def _call(server: Server, path: str, body: object = None) -> object:
    answer = httpx.post(f"{server.ingress_url}{path}", timeout=60, trust_env=False, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def _admin(server: Server, method: str, path: str, body: object = None) -> httpx.Response:
    url = f"{server.admin_url}{path}"
    return httpx.request(method, url, timeout=60, trust_env=False, json=body)


def _serve(program: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "perdure", "serve", str(program), "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
    )


def test_metrics_tell_how_late_the_loops_of_the_partitions_are(
    program: Path, tmp_path: Path
) -> None:
    with Server(tmp_path / "data", program, flags=MANY) as server:
        name = "partition_loop_lag_seconds_count "
        while True:  # until the first appointments are over
            lines = _admin(server, "GET", "/metrics").text.splitlines()
            (found,) = [each for each in lines if name in each]
            if float(found.rpartition(" ")[2]) > 0:
                return


def test_keys_live_in_all_partitions_and_calls_cross_between_them(
    program: Path, tmp_path: Path
) -> None:
    with Server(tmp_path / "data", program, flags=MANY) as server:
        for key in KEYS:
            assert _call(server, f"/Box/{key}/add", 1) == 1
            assert _call(server, "/Door/through", key) == 2
        assert len({_call(server, f"/Box/{key}/where") for key in KEYS}) == 2
        assert server.stop() == 0
        server.start()
        assert [_call(server, f"/Box/{key}/add", 0) for key in KEYS] == [2] * len(KEYS)


def test_the_tree_shows_every_process(program: Path, tmp_path: Path) -> None:
    with Server(tmp_path / "data", program, flags=MANY) as server:
        found = _admin(server, "GET", "/tree").json()["processes"]
        assert found["watchdog_pid"] == server.pid
        names = ["partition-0", "partition-1", "gateway-0", "gateway-1"]
        assert [each["name"] for each in found["workers"]] == names
        assert {each["state"] for each in found["workers"]} == {"up"}
        command = [sys.executable, "-m", "perdure", "tree", "--url", server.admin_url]
        shown = subprocess.run(command, capture_output=True, text=True, timeout=60).stdout
        assert all(name in shown for name in ("watchdog", "Admin", "supervisor", *names))


def test_a_deployment_is_known_in_every_process_when_its_registration_is_answered(
    program: Path, tmp_path: Path
) -> None:
    serving = _serve(program)
    try:
        assert serving.stdout is not None
        said = iter(serving.stdout)
        url = next(line.split()[1] for line in said if line.startswith("Endpoint"))
        with Server(tmp_path / "data", flags=MANY) as server:
            answer = _admin(server, "POST", "/deployments", {"uri": url})
            assert answer.status_code == 201, answer.text
            for key in KEYS:
                assert _call(server, "/Door/through", key) == 1
            id = answer.json()["id"]
            removed = _admin(server, "DELETE", f"/deployments/{id}?force=true")
            assert removed.status_code == 202, removed.text
            for _ in KEYS:  # whichever gateway answers
                gone = httpx.post(f"{server.ingress_url}/Door/through", json="x", trust_env=False)
                assert gone.status_code == 404
    finally:
        serving.terminate()
        serving.wait(30)
        assert serving.stdout is not None
        serving.stdout.close()


def test_another_count_of_partitions_than_the_data_has_is_refused_with_the_command_to_run(
    program: Path, tmp_path: Path
) -> None:
    with Server(tmp_path / "data", program, flags=MANY) as server:
        assert server.stop() == 0
    other = Server(tmp_path / "data", program, flags=("--system", "processes", "--partitions", "3"))
    with pytest.raises(DidNotStart, match=r"perdure repartition --data .* --partitions 3"):
        other.start()
    other.close()


def test_a_mistake_in_the_program_is_told_and_ends_everything(tmp_path: Path) -> None:
    program = tmp_path / "wrong.py"
    program.write_text("import perdure\nboom = 1 / 0\n")
    server = Server(tmp_path / "data", program, flags=MANY)
    with pytest.raises(DidNotStart, match=r"exit code 2[\s\S]*ZeroDivisionError"):
        server.start()
    server.close()


def test_a_port_of_another_server_is_refused(program: Path, tmp_path: Path) -> None:
    with Server(tmp_path / "data", program, flags=MANY) as server:
        address = server.ingress_url.removeprefix("http://")
        other = Server(tmp_path / "other", program, flags=(*MANY, "--ingress", address))
        with pytest.raises(DidNotStart, match="already in use"):
            other.start()
        other.close()


def test_an_app_on_the_official_sdk_is_hosted_in_every_partition_under_one_id(
    tmp_path: Path,
) -> None:
    (tmp_path / "shop.py").write_text(OFFICIAL)
    with Server(tmp_path / "data", "shop.py", flags=MANY) as server:
        for key in KEYS:
            assert _call(server, f"/Tally/{key}/add", 2) == 2
        ids = [each["id"] for each in _admin(server, "GET", "/deployments").json()["deployments"]]
        assert server.stop() == 0
        server.start()
        assert [_call(server, f"/Tally/{key}/add", 1) for key in KEYS] == [3] * len(KEYS)
        after = _admin(server, "GET", "/deployments").json()["deployments"]
        assert [each["id"] for each in after] == ids
