"""One server for the folder, with an invocation in every state, and a way to ask it."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from tests.crash.server import Server

PROGRAM = Path(__file__).parent / "program.py"
PATIENCE_S = 60.0

Sql = Callable[[str], list[dict[str, Any]]]


class Filled(msgspec.Struct):
    """Ids of the invocations, by what became of them."""

    server: Server
    ids: dict[str, str]

    def query(self, text: str, accept: str = "application/json") -> httpx.Response:
        url = f"{self.server.admin_url}/query"
        return httpx.post(
            url, json={"query": text}, headers={"accept": accept}, timeout=90, trust_env=False
        )

    def rows(self, text: str) -> list[dict[str, Any]]:
        answer = self.query(text)
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()["rows"]
        return found

    def await_rows(self, text: str, expected: list[dict[str, Any]]) -> None:
        """Until the query gives exactly that."""
        give_up_at = time.monotonic() + PATIENCE_S
        while (found := self.rows(text)) != expected:
            assert time.monotonic() < give_up_at, found
            time.sleep(0.02)


def send(ingress: str, target: str, body: Any = None, **params: str) -> str:
    content = None if body is None else msgspec.json.encode(body)
    headers = {} if body is None else {"content-type": "application/json"}
    url = f"{ingress}/{target}/send"
    answer = httpx.post(url, content=content, headers=headers, params=params, trust_env=False)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["invocationId"])


def attach(ingress: str, id: str) -> httpx.Response:
    return httpx.get(f"{ingress}/restate/invocation/{id}/attach", timeout=30, trust_env=False)


def fill(server: Server) -> Filled:
    url = server.ingress_url
    ids = {
        "done": send(url, "Box/a/put", "v"),
        "refused": send(url, "Desk/refuse"),
        "chain": send(url, "Desk/chain", "called"),
        "running": send(url, "Box/locked/hold"),
        "paused": send(url, "Desk/stumble"),
        "backing": send(url, "Desk/falter"),
        "suspended": send(url, "Desk/doze"),
        "scheduled": send(url, "Desk/greet", "later", delay="1d"),
        "workflow": send(url, "Flow/w/run"),
    }
    ids["pending"] = send(url, "Box/locked/put", "waits")
    for each in ("done", "refused", "chain"):
        attach(url, ids[each])
    filled = Filled(server, ids)
    for name, status in (
        ("paused", "paused"),
        ("backing", "backing-off"),
        ("suspended", "suspended"),
    ):
        query = f"select status from sys_invocation where id = '{ids[name]}'"
        filled.await_rows(query, [{"status": status}])
    promises = "select count(*) as n from sys_promise"
    filled.await_rows(promises, [{"n": 2}])
    return filled


@pytest.fixture(scope="package")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Filled]:
    with Server(tmp_path_factory.mktemp("sql") / "data", PROGRAM) as server:
        yield fill(server)


@pytest.fixture
def sql(filled: Filled) -> Sql:
    return filled.rows
