"""`perdure journal`, `watch`, `tree`, `fork`, `sql`, `completion` against a real server."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from perdure.gateway.cli import main
from tests.gateway import shop
from tests.gateway.real import Real, real
from tests.gateway.test_cli_replay import ended, send

FAILED, USAGE, CANNOT_CONNECT, NOT_FOUND = 1, 2, 3, 4
UNKNOWN_ID = "inv_1foAirY4KKzi3nyGpLAzWjLgf9RFzKh2Li"


@pytest.fixture
def on(tmp_path: Path) -> Iterator[Real]:
    with real(shop.app, tmp_path / "data") as each:
        yield each


# ---- journal -------------------------------------------------------------------------------------


def test_journal_is_a_timeline_with_results_beside_their_commands(on: Real) -> None:
    id = ended(on, "Shop/ada/order", "3")
    result = on.run("journal", id)
    assert result.exit_code == 0, result.output
    for shown in ("Shop/ada/order", "completed", "Stock/reserve", '"t-1-6"', "get_eager_state"):
        assert shown in result.output
    lines = json.loads(on.run("journal", id, "--json").output)["timeline"]
    kinds = [each["type"] for each in lines]
    assert kinds == ["input", "get_eager_state", "set_state", "run", "call", "sleep", "output"]
    call = lines[4]
    assert (call["what"], call["given"], call["result"]) == ("Stock/reserve", "3", "6")
    assert call["state"] == "done"
    assert call["took_ms"] >= 0
    assert call["at"] is not None
    assert call["child_id"].startswith("inv_")


def test_journal_shows_what_is_waited_for_and_what_failed(on: Real) -> None:
    id = send(on, "Shop/eve/broken", "1")
    on.await_status(id, "backing-off")
    text = on.run("journal", id).output
    assert "backing-off until" in text
    assert "ValueError" in text
    assert "Traceback" not in text
    full = on.run("journal", id, "--full").output.splitlines()
    assert "    Traceback (most recent call last):" in full
    failed = ended(on, "Shop/bob/order", "404")
    assert "FAILED out of stock (404)" in on.run("journal", failed).output
    assert on.run("journal", UNKNOWN_ID).exit_code == NOT_FOUND


# ---- watch ---------------------------------------------------------------------------------------


def test_watch_follows_an_invocation_to_its_end_and_ends_as_it_does(on: Real) -> None:
    id = ended(on, "Shop/ada/order", "3")
    result = on.run("watch", id)
    assert result.exit_code == 0
    assert "Stock/reserve" in result.output
    assert result.output.rstrip().endswith("completed")
    failed = ended(on, "Shop/bob/order", "404")
    result = on.run("watch", failed)
    assert result.exit_code == FAILED
    assert "out of stock (404)" in result.output
    for line in on.run("watch", id, "--json").output.splitlines():
        json.loads(line)


def test_watch_waits_for_one_that_goes_on(on: Real) -> None:
    id = send(on, "Shop/ada/order", "13")
    process = subprocess.Popen(
        [sys.executable, "-m", "perdure", "watch", id, "--url", on.admin_url],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    while "waits for" not in (line := process.stdout.readline()):
        assert line, "the watching ended too early"
    on.on_loop(on.system.kill(id))
    rest, _ = process.communicate(timeout=60)
    assert process.returncode == FAILED
    assert "killed (409)" in rest


def test_watch_lists_what_is_in_flight_until_it_is_interrupted(on: Real) -> None:
    id = send(on, "Shop/ada/order", "13")
    on.await_status(id, "running")
    process = subprocess.Popen(
        [sys.executable, "-m", "perdure", "watch", "--json", "--url", on.admin_url],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["id"] == id
    process.terminate()
    process.communicate(timeout=60)


def test_the_live_list_is_for_a_terminal(on: Real) -> None:
    result = on.run("watch")
    assert result.exit_code == 2
    assert "--json" in result.output


# ---- tree ----------------------------------------------------------------------------------------


def test_tree_shows_every_actor_with_what_waits_there(on: Real) -> None:
    first = send(on, "Shop/ada/order", "13")
    on.await_status(first, "running")
    send(on, "Shop/ada/order", "3")
    result = on.run("tree")
    assert result.exit_code == 0, result.output
    for shown in ("one_for_one", "PartitionActor", "Shop/ada"):
        assert shown in result.output
    found = json.loads(on.run("tree", "--json").output)
    ada = next(each for each in found["actors"] if each["key"] == "ada")
    assert (ada["service"], ada["waiting_count"], ada["attempt_count"]) == ("Shop", 1, 1)
    assert found["down"] == ""
    assert len(json.loads(on.run("tree", "--json", "--limit", "1").output)["actors"]) == 1
    assert "and 1 more" in on.run("tree", "--limit", str(found["actor_count"] - 1)).output
    assert on.run("tree", "--watch", "--json").exit_code == USAGE


# ---- fork ----------------------------------------------------------------------------------------


def test_fork_begins_with_an_edited_part_of_the_journal(on: Real) -> None:
    id = ended(on, "Shop/ada/order", "3")
    before = len(shop.runs)
    result = on.run("fork", id, "--from", "4", "--set", '3="edited"')
    assert result.exit_code == 0, result.output
    new = result.output.strip()
    on.await_status(new, "completed")
    info = json.loads(on.run("journal", new, "--json").output)["invocation"]
    assert info["result"]["value"]["json"] == "edited-6"
    assert info["restarted_from"] == id
    assert len(shop.runs) == before


def test_fork_refuses_what_it_cannot_edit_or_restart(on: Real) -> None:
    id = ended(on, "Shop/ada/order", "3")
    assert on.run("fork", id, "--set", "3=nonsense").exit_code == USAGE
    assert on.run("fork", id, "--set", "three=1").exit_code == USAGE
    assert on.run("fork", id, "--set", "99=1").exit_code == USAGE
    assert "has no value" in on.run("fork", id, "--from", "4", "--set", "2=1").output
    assert on.run("fork", UNKNOWN_ID).exit_code == NOT_FOUND
    waiting = send(on, "Shop/bob/order", "13")
    on.await_status(waiting, "running")
    refused = on.run("fork", waiting)
    assert refused.exit_code == FAILED
    assert "still running" in refused.output


# ---- sql -----------------------------------------------------------------------------------------


class _Answers(BaseHTTPRequestHandler):
    status = 200
    body = b""

    def do_POST(self) -> None:
        length = int(self.headers["content-length"])
        type(self).asked = (self.path, self.headers["accept"], json.loads(self.rfile.read(length)))
        self.send_response(self.status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    asked: tuple[str, str, Any]

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def sql_server() -> Iterator[tuple[str, type[_Answers]]]:
    """Answers every query alike; the dialect itself has tests of its own."""
    answers = type("Answers", (_Answers,), {})
    server = HTTPServer(("127.0.0.1", 0), answers)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", answers
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_sql_writes_rows_as_a_table_or_as_json(sql_server: tuple[str, type[_Answers]]) -> None:
    url, answers = sql_server
    answers.body = json.dumps({"rows": [{"id": "a\x1b", "n": 1}, {"id": None, "n": [1]}]}).encode()

    def run(*arguments: str, **rest: Any) -> str:
        return CliRunner().invoke(main, ["sql", *arguments, "--url", url], **rest).output

    table = run("select 1")
    assert answers.asked == ("/query", "application/json", {"query": "select 1"})
    assert "a\\x1b" in table
    assert table.split()[:2] == ["id", "n"]
    assert json.loads(run("q", "--json"))["rows"][1] == {"id": None, "n": [1]}
    assert [json.loads(each)["n"] for each in run("q", "--jsonl").splitlines()] == [1, [1]]
    run("-", input="select 2")
    assert answers.asked[2] == {"query": "select 2"}
    answers.body = b'{"rows": []}'
    assert run("q") == "No rows.\n"


def test_sql_asks_a_real_server(on: Real) -> None:
    id = ended(on, "Shop/ada/order", "3")
    query = "select id, target from sys_invocation where target_service_name = 'Shop'"
    found = json.loads(on.run("sql", query, "--json").output)
    assert found == {"rows": [{"id": id, "target": "Shop/ada/order"}]}
    wrong = on.run("sql", "select nothing from nowhere")
    assert wrong.exit_code == FAILED
    assert "nowhere" in wrong.output


def test_sql_tells_errors_as_the_other_commands_do(
    sql_server: tuple[str, type[_Answers]],
) -> None:
    url, answers = sql_server
    answers.status, answers.body = 400, b'{"message": "no such table: x"}'
    result = CliRunner().invoke(main, ["sql", "select * from x", "--url", url])
    assert result.exit_code == FAILED
    assert "no such table: x" in result.output
    both = CliRunner().invoke(main, ["sql", "q", "--json", "--jsonl", "--url", url])
    assert both.exit_code == USAGE
    nobody = CliRunner().invoke(main, ["sql", "q", "--url", "http://127.0.0.1:1"])
    assert nobody.exit_code == CANNOT_CONNECT


# ---- completion ----------------------------------------------------------------------------------


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_writes_the_script_of_a_shell(shell: str) -> None:
    result = CliRunner().invoke(main, ["completion", shell])
    assert result.exit_code == 0
    assert "_PERDURE_COMPLETE" in result.output


def test_the_script_completes_commands() -> None:
    environ = {"_PERDURE_COMPLETE": "bash_complete", "COMP_WORDS": "perdure re", "COMP_CWORD": "1"}
    result = CliRunner().invoke(main, [], env=environ, prog_name="perdure")
    assert "replay" in result.output
