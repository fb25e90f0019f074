"""Our handlers behind a server, the official one and ours: samples and every feature of a context, in all
ways a server drives a deployment. What needs the official server is skipped without it (`find_server`).
"""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.sdk.endpoint.servers import (
    PATIENCE_S,
    find_server,
    official_server,
    perdure_server,
    served,
)

HERE = Path(__file__).parent
SAMPLES = HERE.parents[2] / "samples"
SERVED = [SAMPLES / f"{name}.py" for name in ("counter", "fan_out", "reminder", "signup", "trip")]
SUSPEND_AFTER = "RESTATE_WORKER__INVOKER__INACTIVITY_TIMEOUT"
LAZY = {"RESTATE_WORKER__INVOKER__EAGER_STATE_SIZE_LIMIT": "0"}
V7 = {
    "RESTATE_EXPERIMENTAL_ENABLE_VQUEUES": "true",
    "RESTATE_EXPERIMENTAL_ENABLE_PROTOCOL_V7": "true",
}
# name -> settings of the server, and how the deployment is registered
WAYS: dict[str, tuple[dict[str, str], dict[str, Any]]] = {
    "v6": ({}, {}),
    "v7": (V7, {}),
    "suspending": ({SUSPEND_AFTER: "0s"}, {}),
    "suspending-soon": ({SUSPEND_AFTER: "20ms", **LAZY}, {}),
    "v7-suspending": ({SUSPEND_AFTER: "0s", **V7}, {}),
    "http1": ({}, {"use_http_11": True}),
}

# the same with `perdure up` as the server
OURS: dict[str, tuple[dict[str, str], dict[str, Any]]] = {
    "ours": ({}, {}),
    "ours-v6": ({"PERDURE_DEPLOYMENTS__NEWEST_PROTOCOL_VERSION": "6"}, {}),
    "ours-suspending": ({"PERDURE_HANDLERS__INACTIVITY_TIMEOUT": "0s"}, {}),
    "ours-http1": ({}, {"use_http_11": True}),
}

Ingress = Callable[..., Any]
Server = AbstractContextManager[tuple[str, str]]


@pytest.fixture(scope="module", params=[*WAYS, *OURS])
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of the ingress of a server that our services are registered with."""
    folder = tmp_path_factory.mktemp("server")
    settings, registration = (WAYS | OURS)[request.param]
    with (
        _server(request.param, folder, settings) as (ingress, admin),
        served(folder, *SERVED, HERE / "program.py") as endpoint,
    ):
        body = {"uri": endpoint, **registration}
        answer = httpx.post(f"{admin}/deployments", json=body, trust_env=False, timeout=PATIENCE_S)
        assert answer.status_code == 201, answer.text
        yield ingress


def _server(way: str, folder: Path, settings: dict[str, str]) -> Server:
    if way in OURS:
        return perdure_server(folder, settings)
    binary = find_server()
    if binary is None:
        pytest.skip("there is no official server: set RESTATE_SERVER, or install it")
    return official_server(binary, folder, settings)


@pytest.fixture
def call(url: str) -> Iterator[Ingress]:
    """`call(path, argument)`: the answer; fails where it is none, unless ``status`` says which."""
    with httpx.Client(base_url=url, trust_env=False, timeout=PATIENCE_S) as client:

        def carry_out(path: str, *argument: Any, status: int = 200, **headers: str) -> Any:
            body = {"json": argument[0]} if argument else {}
            given = {name.replace("_", "-"): value for name, value in headers.items()}
            method = "GET" if path.endswith(("/attach", "/output")) else "POST"
            answer = client.request(method, path, headers=given, **body)
            assert answer.status_code == status, answer.text
            return answer.json() if answer.content else None

        yield carry_out


def test_state_is_kept(call: Ingress) -> None:
    assert [call("/Counter/a/add", 2), call("/Counter/a/add", 3)] == [2, 5]
    assert call("/Counter/a/get") == 5


def test_an_input_that_does_not_fit_is_a_bad_request(call: Ingress) -> None:
    assert "bad input" in call("/Counter/a/add", "two", status=400)["message"]


@pytest.mark.parametrize("box", ["Box", "LazyBox"])
def test_every_operation_on_state(call: Ingress, box: str) -> None:
    call(f"/{box}/k/put", ["old", [1, 2]])
    assert call(f"/{box}/k/look") == {"old": [1, 2]}
    assert call(f"/{box}/k/churn") == [None, 2, ["b", "old"], ["c"]]
    assert call(f"/{box}/k/look") == {"c": 3}


def test_calls_fan_out(call: Ingress) -> None:
    assert call("/Words/count_all", ["to be or not", "to be"]) == {
        "to": 2,
        "be": 2,
        "or": 1,
        "not": 1,
    }
    assert call("/Tools/combined") == [[0, 1, 2], ["call", "first"]]


def test_runs_are_retried_and_give_up_as_their_options_say(call: Ingress) -> None:
    assert call("/Tools/flaky", "a") == 3
    assert call("/Tools/hopeless", "b") == "ValueError('no luck') after 3"
    assert call("/Tools/many_runs", 5) == [0, 1, 4, 9, 16]


def test_a_saga_compensates(call: Ingress) -> None:
    assert call("/Trip/book", {"traveller": "Ada", "to": "Rome"}) == "flight, hotel, car"
    refused = call("/Trip/book", {"traveller": "Ada", "to": "Venice"}, status=409)
    assert refused["message"] == "there are no cars in Venice"


def test_time_passes(call: Ingress) -> None:
    before, after = call("/Tools/naps")
    assert after - before >= 0.3


def test_blocking_handlers(call: Ingress) -> None:
    assert call("/Tools/blocks", "Ada") == "hello Ada!1"


def test_failures_reach_callers_with_their_metadata(call: Ingress) -> None:
    assert call("/Tools/relays", 418) == [418, "refused", {"why": "test"}]


def until_it_is_there(url: str, invocation: str) -> None:
    """A server may answer the sender of a one-way call before the call has reached its target."""
    deadline = time.monotonic() + PATIENCE_S
    while httpx.get(f"{url}{invocation}/output", trust_env=False).status_code == 404:
        assert time.monotonic() < deadline, f"{invocation} did not come"
        time.sleep(0.02)


def test_sends_and_attaching(call: Ingress, url: str) -> None:
    assert call("/Tools/sends", "sent").startswith("inv_1")
    assert call("/Box/sent/look") == {"sent": 1}
    call("/Reminder/ada/remind", {"id": "tea", "text": "The tea!", "delay_s": 0.1})
    tea = "/restate/invocation/Reminder/ada/ring/tea"
    until_it_is_there(url, tea)
    assert call(f"{tea}/attach") == "The tea!"


def test_awakeables(call: Ingress) -> None:
    assert call("/Tools/awakeables") == ["yes", 418, "no"]


def test_signals(call: Ingress) -> None:
    id = call("/Tools/waits_for_signal/send", status=202)["invocationId"]
    call("/Tools/signals", id)
    assert call(f"/restate/invocation/{id}/attach") == {"went": True}


def test_cancellation(call: Ingress) -> None:
    assert call("/Tools/cancelled_child") == "409 cancelled"


def test_what_the_context_does_not_know_of_may_be_awaited(call: Ingress) -> None:
    assert call("/Tools/slow_task").startswith("inv_1")


def test_workflows_and_their_promises(call: Ingress) -> None:
    call("/Flow/w/run/send", "Ada", status=202)
    assert call("/Flow/w/answer", "yes") is None
    assert call("/restate/workflow/Flow/w/attach") == "Ada: yes"
    assert call("/Flow/w/stage") == "done"
    assert "already completed" in call("/Flow/w/answer", "no", status=409)["message"]
    call("/Signup/ada/run/send", "ada@example.org", status=202)
    call("/Signup/ada/confirm", True)
    assert call("/restate/workflow/Signup/ada/attach") == "ada is a member"
