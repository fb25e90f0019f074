"""Acceptance list of the official tool (cli 9): all but invocations and deployments."""

import json
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.cli_official.conftest import Restate, binary, runner
from tests.gateway.sql.conftest import Filled


def test_whoami(filled: Filled, restate: Restate) -> None:
    said = restate("whoami").said
    assert "is healthy!" in said
    assert filled.server.admin_url in said
    assert filled.server.ingress_url in said


def test_services(restate: Restate) -> None:
    listed = restate("services", "list").said
    for name in ("Box", "Desk", "Flow"):
        assert name in listed
    assert "virtual object" in listed
    assert "VirtualObject" in restate("services", "describe", "Box").said
    assert restate("services", "config", "view", "Box").said


def test_a_service_is_made_private_and_public_again(filled: Filled, restate: Restate) -> None:
    for public in ("false", "true"):
        restate("services", "config", "patch", "Desk", "--public", public, "-y")
        filled.await_rows(
            "select public from sys_service where name = 'Desk'", [{"public": public == "true"}]
        )


def test_status_shows_locked_keys(filled: Filled, restate: Restate) -> None:
    for said in (restate("services", "status").said, restate("services", "status", "Box").said):
        assert "Summary:" in said
        assert "Active Keys:" in said
        assert "locked" in said
        assert filled.ids["running"] in said


# ---- state ---------------------------------------------------------------------------------------


def test_state_is_read_and_patched(filled: Filled, restate: Restate) -> None:
    assert json.loads(restate("kv", "get", "Box", "called", "--plain", "--binary").stdout)
    patch = '[{"op": "replace", "path": "/value", "value": "Im5ldyI="}]'
    said = restate("kv", "patch", "Box", "called", "-p", patch, "--binary", "-y").said
    assert "Successfully submitted state update." in said
    query = "select value_utf8 as v from state where service_key = 'called' and key = 'value'"
    filled.await_rows(query, [{"v": '"new"'}])


@pytest.fixture
def rival(filled: Filled, tmp_path: Path) -> str:
    """An editor during whose use somebody else changes the state."""
    editor = tmp_path / "editor"
    url = f"{filled.server.admin_url}/services/Box/state"
    editor.write_text(
        f"""#!{sys.executable}
import json, sys, time, urllib.request as http
URL, TEXT = {url!r}, {{"content-type": "application/json"}}

def theirs():
    state = {{"version": None, "object_key": "rivals", "new_state": {{"value": list(b'"theirs"')}}}}
    http.urlopen(http.Request(URL, json.dumps(state).encode(), TEXT)).read()
    query = "select value_utf8 as v from state where service_key = 'rivals' and key = 'value'"
    ask = http.Request(URL.replace("services/Box/state", "query"),
                       json.dumps({{"query": query}}).encode(), TEXT | {{"accept": "application/json"}})
    while json.load(http.urlopen(ask))["rows"] != [{{"v": '"theirs"'}}]:
        time.sleep(0.01)

theirs()
with open(sys.argv[1], "w") as file:
    json.dump({{"value": "ours"}}, file)
""",
        encoding="utf-8",
    )
    editor.chmod(0o700)
    return str(editor)


RIVALS = "select value_utf8 as v from state where service_key = 'rivals' and key = 'value'"


def test_an_edit_of_a_version_that_is_not_the_latest_changes_nothing(
    filled: Filled, restate: Restate, rival: str
) -> None:
    patch = '[{"op": "add", "path": "/value", "value": "first"}]'
    restate("kv", "patch", "Box", "rivals", "-p", patch, "-y")
    filled.await_rows(RIVALS, [{"v": '"first"'}])
    said = restate("kv", "edit", "Box", "rivals", "-y", editor=rival).said
    assert "Successfully submitted state update." in said
    # the next change of the same key is behind it in the key's inbox
    patch = '[{"op": "add", "path": "/other", "value": 1}]'
    restate("kv", "patch", "Box", "rivals", "-f", "-p", patch, "-y")
    other = "select value_utf8 as v from state where service_key = 'rivals' and key = 'other'"
    filled.await_rows(other, [{"v": "1"}])
    assert filled.rows(RIVALS) == [{"v": '"theirs"'}]


def test_a_forced_edit_wins(filled: Filled, restate: Restate, rival: str) -> None:
    patch = '[{"op": "add", "path": "/value", "value": "first"}]'
    restate("kv", "patch", "Box", "rivals", "-f", "-p", patch, "-y")
    filled.await_rows(RIVALS, [{"v": '"first"'}])
    restate("kv", "edit", "Box", "rivals", "-f", "-y", editor=rival)
    filled.await_rows(RIVALS, [{"v": '"ours"'}])


def test_state_is_cleared(filled: Filled, restate: Restate) -> None:
    said = restate("kv", "clear", "Box/a", "-y").said
    assert "Enqueued successfully for processing" in said
    filled.await_rows("select key from state where service_key = 'a'", [])
    assert "No state found!" in restate("kv", "clear", "Box/a", "-y", code=1).said


# ---- sql -----------------------------------------------------------------------------------------

QUERY = "select name, revision from sys_service order by name"


def test_sql_as_a_table(restate: Restate) -> None:
    done = restate("sql", QUERY)
    assert "NAME" in done.stdout
    assert "Flow" in done.stdout
    assert "3 rows" in done.said


def test_sql_as_json(restate: Restate) -> None:
    rows = json.loads(restate("sql", "--json", QUERY).stdout)
    assert rows == [{"name": name, "revision": 1} for name in ("Box", "Desk", "Flow")]


def test_sql_as_lines(restate: Restate) -> None:
    lines = restate("sql", "--jsonl", QUERY).stdout.splitlines()
    assert json.loads(lines[0]) == {"name": "Box", "revision": 1}
    assert len(lines) == 3


def test_sql_of_every_kind_of_column(restate: Restate) -> None:
    for table in ("sys_invocation", "sys_journal", "state", "sys_deployment"):
        assert "rows" in restate("sql", f"select * from {table}").said


def test_sql_with_a_mistake(restate: Restate) -> None:
    assert "ParserError" in restate("sql", "selec", code=1).said


# ---- flow control and Kafka ----------------------------------------------------------------------


def test_rules_have_a_life_cycle(restate: Restate) -> None:
    assert "No rules defined." in restate("rules", "list").said
    assert "Created rule 'sc1'" in restate("rules", "set", "sc1", "--concurrency", "5", "-y").said
    assert "sc1" in restate("rules", "list", "-x").said
    assert "[OK]" in restate("rules", "disable", "sc1", "-y").said
    assert "[OK]" in restate("rules", "enable", "sc1", "-y").said
    assert "Deleted rule 'sc1'" in restate("rules", "delete", "sc1", "-y").said
    assert "No rules defined." in restate("rules", "list").said


def test_there_are_no_virtual_queues(restate: Restate) -> None:
    assert "No virtual queues found." in restate("vqueues", "list").said


def test_kafka_clusters_and_subscriptions_have_a_life_cycle(restate: Restate) -> None:
    assert "No Kafka clusters registered." in restate("kc", "list").said
    created = restate("kc", "create", "-y", "c1", "bootstrap.servers=localhost:9092").said
    assert "Kafka cluster c1 created" in created
    assert "c1" in restate("kc", "describe", "c1").said
    made = restate("sub", "create", "-y", "kafka://c1/topic", "service://Desk/greet").said
    assert "created" in made
    (id,) = {word for word in made.replace("\n", " ").split(" ") if word.startswith("sub_")}
    assert id in restate("sub", "list").said
    assert "deleted" in restate("sub", "delete", "-y", id).said
    assert "No subscriptions registered." in restate("sub", "list").said
    restate("kc", "delete", "-y", "c1")


# ---- nobody there --------------------------------------------------------------------------------


def test_a_server_that_is_down(tmp_path: Path) -> None:
    restate = runner("http://127.0.0.1:1", tmp_path)
    assert "127.0.0.1:1" in restate("services", "list", code=1).said


class _FromTheFuture(BaseHTTPRequestHandler):
    """Healthy, but of a version that no tool of today knows."""

    def do_GET(self) -> None:
        body = (
            b'{"version":"1.0.0","min_admin_api_version":5,"max_admin_api_version":6,'
            b'"ingress_endpoint":"http://127.0.0.1:1/","features":{}}'
        )
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is said."""


def test_a_server_of_versions_that_the_tool_does_not_know(tmp_path: Path) -> None:
    binary()
    with HTTPServer(("127.0.0.1", 0), _FromTheFuture) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_port}"
            said = runner(url, tmp_path)("services", "list", code=1).said
            assert "The CLI is not compatible with the Restate server" in said
        finally:
            server.shutdown()
            thread.join()
