"""A stop by signal lets requests finish, a kill does not; either way the next start goes on from there."""

import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Queue
from time import monotonic, sleep
from typing import Any

import httpx
import pytest

from tests.crash.server import PATIENCE_S, PROGRAMS, Nursery, Server

_POLL_S = 0.01
_FOREVER_MS = 3_600_000


def _server(tmp_path: Path, *flags: str) -> Server:
    environ = {"EFFECTS": str(tmp_path / "effects")}
    return Server(tmp_path / "data", PROGRAMS / "lasting.py", flags=flags, environ=environ)


def _effects(server: Server) -> list[str]:
    path = server.data.parent / "effects"
    return path.read_text().splitlines() if path.exists() else []


def _await(what: str, happens: Callable[[], Any]) -> Any:
    """Poll until ``happens`` returns something true; it is returned."""
    deadline = monotonic() + PATIENCE_S
    while not (found := happens()):
        assert monotonic() < deadline, f"never happened: {what}"
        sleep(_POLL_S)
    return found


def _post(server: Server, path: str, body: Any = None) -> httpx.Response:
    url = f"{server.ingress_url}/{path}"
    if body is None:
        return httpx.post(url, timeout=PATIENCE_S, trust_env=False)
    return httpx.post(url, json=body, timeout=PATIENCE_S, trust_env=False)


def _send(server: Server, path: str, body: Any = None) -> str:
    answer = _post(server, path, body)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["invocationId"])


def _attach(server: Server, invocation_id: str) -> Any:
    url = f"{server.ingress_url}/restate/invocation/{invocation_id}/attach"
    answer = httpx.get(url, timeout=PATIENCE_S, trust_env=False)
    assert answer.status_code == 200, answer.text
    return answer.json()


def _info(server: Server, invocation_id: str) -> dict[str, Any]:
    url = f"{server.admin_url}/invocations/{invocation_id}"
    info = httpx.get(url, timeout=PATIENCE_S, trust_env=False).raise_for_status().json()
    assert isinstance(info, dict)
    return info


def _await_status(server: Server, invocation_id: str, status: str) -> None:
    _await(f"{invocation_id} is {status}", lambda: _info(server, invocation_id)["status"] == status)


def _journaled(server: Server, invocation_id: str) -> list[str]:
    """The types of its entries."""
    url = f"{server.admin_url}/invocations/{invocation_id}/journal"
    return [str(each["type"]) for each in httpx.get(url, trust_env=False).json()["entries"]]


class _Call:
    """A request in flight on a thread of its own."""

    def __init__(self, server: Server, path: str, body: Any = None) -> None:
        self._found: Queue[httpx.Response | Exception] = Queue()
        self._thread = threading.Thread(target=self._run, args=(server, path, body))
        self._thread.start()

    def _run(self, *call: Any) -> None:
        try:
            self._found.put(_post(*call))
        except httpx.HTTPError as e:
            self._found.put(e)

    def result(self) -> httpx.Response | Exception:
        self._thread.join()
        return self._found.get()


# ---- signals --------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda each: each.name)
def test_a_signal_lets_requests_in_flight_have_their_answers(
    tmp_path: Path, number: signal.Signals
) -> None:
    with _server(tmp_path) as server:
        assert _post(server, "Counter/a/add", 1).json() == 1
        call = _Call(server, "Lasting/slow", 400)
        _await("the call has begun", lambda: _effects(server))
        server.signal(number)
        answer = call.result()
        assert isinstance(answer, httpx.Response)
        assert (answer.status_code, answer.json()) == (200, "slept")
        assert server.wait() == 0
        assert server.said.endswith("Stopped.\n")
        assert "Traceback" not in server.log()
        server.start()
        assert _post(server, "Counter/a/add", 1).json() == 2


def test_what_outlasts_the_shutdown_timeout_goes_on_at_the_next_start(tmp_path: Path) -> None:
    with _server(tmp_path, "--set", "engine.shutdown_timeout=100ms") as server:
        call = _Call(server, "Lasting/waits")
        awakeable = _await("an awakeable", lambda: _effects(server))[0].split()[1]
        (invocation_id,) = _listed(server, "Lasting")
        assert server.stop() == 0
        cut = call.result()
        assert isinstance(cut, Exception) or cut.status_code == 503
        assert "Traceback" not in server.log()
        server.start()
        assert _post(server, f"restate/awakeables/{awakeable}/resolve", "late").status_code == 202
        assert _attach(server, invocation_id) == "late"


def _listed(server: Server, service: str) -> list[str]:
    url = f"{server.admin_url}/invocations?service={service}"
    answer = httpx.get(url, trust_env=False).json()
    return [str(each["id"]) for each in answer["invocations"]]


def test_connections_that_say_nothing_do_not_hold_up_a_stop(tmp_path: Path) -> None:
    with _server(tmp_path) as server, httpx.Client(trust_env=False) as idle:
        url = f"{server.ingress_url}/restate/health"
        assert idle.get(url).status_code == 200  # and the connection is kept
        assert server.stop() == 0


def test_a_second_signal_does_not_break_the_stop(tmp_path: Path) -> None:
    with _server(tmp_path) as server:
        call = _Call(server, "Lasting/slow", 300)
        _await("the call has begun", lambda: _effects(server))
        server.signal(signal.SIGTERM)
        server.signal(signal.SIGTERM)
        answer = call.result()
        assert isinstance(answer, httpx.Response)
        assert answer.json() == "slept"
        assert server.wait() == 0


# ---- kill -9 ----------------------------------------------------------------------------------------


class _Left:
    """One invocation in each state that waits for something, left behind by a server that was killed."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.suspended = _send(server, "Lasting/waits/send")
        self.awakeable = self._awakeable(0)
        _await_status(server, self.suspended, "suspended")
        self.failing = _send(server, "Lasting/fails/send")
        _await_status(server, self.failing, "backing-off")
        self.scheduled = _send(server, "Lasting/echo/send?delay=400ms", "later")
        self.far = _send(server, f"Lasting/echo/send?delay={_FOREVER_MS}ms", "much later")
        self.holder = _send(server, "Counter/queue/blocked/send")
        self.holder_awakeable = self._awakeable(1)
        self.queue = [_send(server, "Counter/queue/add/send", n) for n in (1, 10, 100)]
        self.paused = _send(server, "Lasting/pauses/send")
        _await_status(server, self.paused, "paused")
        self.asleep = _send(server, "Lasting/slow/send", 300)
        _await("the sleep is journaled", lambda: "sleep" in _journaled(server, self.asleep))
        server.kill()
        server.start()

    def _awakeable(self, index: int) -> str:
        def published() -> list[str]:
            found = [line for line in _effects(self.server) if line.startswith("awakeable")]
            return found if len(found) > index else []

        return str(_await("an awakeable", published)[index].split()[1])

    def resolve(self, awakeable_id: str, value: str) -> None:
        answer = _post(self.server, f"restate/awakeables/{awakeable_id}/resolve", value)
        assert answer.status_code == 202

    def open_gate(self) -> None:
        Path(f"{self.server.data.parent / 'effects'}.open").touch()


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Left]:
    tmp_path = tmp_path_factory.mktemp("left")
    with Nursery() as nursery:
        server = Server(
            tmp_path / "data",
            PROGRAMS / "lasting.py",
            flags=("--set", "handlers.inactivity_timeout=20ms"),
            environ={"EFFECTS": str(tmp_path / "effects")},
            launch=nursery.launch,
        )
        with server:
            yield _Left(server)


def test_a_suspended_invocation_goes_on_after_a_kill(left: _Left) -> None:
    assert _info(left.server, left.suspended)["status"] == "suspended"
    left.resolve(left.awakeable, "woken")
    assert _attach(left.server, left.suspended) == "woken"


def test_an_invocation_that_backs_off_is_tried_again_after_a_kill(left: _Left) -> None:
    before = _effects(left.server).count("try")
    _await("another try", lambda: _effects(left.server).count("try") > before)
    left.open_gate()
    assert _attach(left.server, left.failing) == "passed"


def test_a_scheduled_invocation_starts_once_after_a_kill(left: _Left) -> None:
    assert _attach(left.server, left.scheduled) == "later"
    assert _effects(left.server).count("echo later") == 1


def test_an_invocation_that_is_not_due_stays_scheduled_after_a_kill(left: _Left) -> None:
    assert _info(left.server, left.far)["status"] == "scheduled"
    assert "echo much later" not in _effects(left.server)


def test_the_queue_of_a_key_keeps_its_order_after_a_kill(left: _Left) -> None:
    assert [_info(left.server, each)["status"] for each in left.queue] == ["pending"] * 3
    left.resolve(left.holder_awakeable, "released")
    assert _attach(left.server, left.holder) == "released"
    assert [_attach(left.server, each) for each in left.queue] == [1, 11, 111]


def test_a_paused_invocation_stays_paused_until_it_is_resumed_after_a_kill(left: _Left) -> None:
    info = _info(left.server, left.paused)
    assert info["status"] == "paused"
    assert "the gate is shut" in info["last_failure"]["message"]
    left.open_gate()
    url = f"{left.server.admin_url}/invocations/{left.paused}/resume"
    assert httpx.patch(url, trust_env=False).is_success
    assert _attach(left.server, left.paused) == "passed"


def test_a_sleep_ends_after_a_kill_and_its_handler_began_once(left: _Left) -> None:
    assert _attach(left.server, left.asleep) == "slept"
    assert _effects(left.server).count("slow") == 1
