"""`kill -9` of each process of a running server: everything is back, nothing is lost, nobody is left over."""

import itertools
import os
import signal
import time
from collections.abc import Iterator

import httpx
import pytest

from tests.crash.families import ROLES, all_gone, descendants, open_pidfds, role_of
from tests.crash.server import PATIENCE_S, PROGRAMS, Server

_FLAGS = ("--system", "processes", "--partitions", "2", "--gateways", "1")
_COUNTERS = ("a", "b", "c", "d")  # in both partitions
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    path = tmp_path_factory.mktemp("tree")
    environ = {"EFFECTS": str(path / "effects")}
    with Server(path / "data", PROGRAMS / "everything.py", flags=_FLAGS, environ=environ) as server:
        yield server
        left = open_pidfds(descendants(server.pid))
        assert server.stop() == 0
        assert all_gone(left), "processes outlive a clean stop"


def _add(server: Server, number: int) -> set[int]:
    """Add one to each counter, asking again until it is answered; what they were before."""
    seen = set()
    deadline = time.monotonic() + PATIENCE_S
    for counter in _COUNTERS:
        url = f"{server.ingress_url}/Counter/{counter}/add"
        key = {"idempotency-key": f"{counter}-{number}"}
        while True:
            try:
                answer = httpx.post(url, json=1, headers=key, timeout=PATIENCE_S, trust_env=False)
                break
            except httpx.TransportError:
                assert time.monotonic() < deadline, "it is not back"
                time.sleep(0.002)
        assert answer.status_code == 200, answer.text
        seen.add(answer.json()[0])
    return seen


def _family(server: Server) -> dict[int, str]:
    """Pid to role, the watchdog included, once everybody is there and everything is up."""
    expected = sorted([*ROLES, "partition"])
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            tree = httpx.get(f"{server.admin_url}/tree", timeout=PATIENCE_S, trust_env=False).json()
            is_up = all(each["state"] == "up" for each in tree["processes"]["workers"])
            pids = [server.pid, *descendants(server.pid)]
            found = {pid: role_of(pid, server.pid) for pid in pids}
            if is_up and sorted(found.values()) == expected:
                return found
        except (httpx.TransportError, OSError):
            pass  # they come and go
        assert time.monotonic() < deadline, "not everything is back"
        time.sleep(0.02)


@pytest.mark.parametrize("role", ROLES)
def test_everything_is_back_and_nobody_is_left_over_after_the_end_of(
    server: Server, role: str
) -> None:
    number = next(_numbers)
    before = _family(server)
    assert _add(server, 2 * number) == {2 * number - 2}
    victim = next(pid for pid in before if before[pid] == role)
    if role == "watchdog":  # its death ends everything; who started it starts it again
        fds = open_pidfds([pid for pid in before if pid != victim])
        server.kill()
        server.start()
        gone = set(before)
    else:
        pidfds = {pid: os.pidfd_open(pid) for pid in before if pid != server.pid}
        os.kill(victim, signal.SIGKILL)
        assert _add(server, 2 * number + 1) == {2 * number - 1}
        gone = set(pidfds) - set(_family(server))
        fds = [pidfds.pop(pid) for pid in gone]
        for fd in pidfds.values():
            os.close(fd)
    assert victim in gone
    assert all_gone(fds), "processes are left over"
    if role == "watchdog":
        assert _add(server, 2 * number + 1) == {2 * number - 1}
