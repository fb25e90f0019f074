"""The command line as a person and a script use it: what it writes, where, and its exit codes."""

import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.crash.server import Nursery, Server
from tests.endtoend.commands import Finished
from tests.endtoend.conftest import PROGRAM

Perdure = Callable[..., Finished]
UNKNOWN_ID = "inv_1gXHZYjYZ24M0VooDNnlwh2kTnWTmiOSaJ"
PATIENCE_S = 30.0


@pytest.fixture
def cli(perdure: Perdure, server: Server) -> Perdure:
    """`perdure` with both addresses in its environment."""
    where = {"PERDURE_INGRESS_URL": server.ingress_url, "PERDURE_ADMIN_URL": server.admin_url}

    def call(*arguments: str | Path, **how: Any) -> Finished:
        done = perdure(*arguments, environ=where, **how)
        assert "Traceback" not in done.stderr
        return done

    return call


def _sent(cli: Perdure, target: str, *arguments: str) -> str:
    done = cli("call", target, *arguments, "--send", "--json")
    assert done.code == 0, done.stderr
    return str(done.json()["result"]["invocationId"])


def _await_status(cli: Perdure, invocation_id: str, status: str) -> dict[str, Any]:
    give_up_at = time.monotonic() + PATIENCE_S
    while True:
        info = cli("invocations", "show", invocation_id, "--json").json()
        assert isinstance(info, dict)
        if info["status"] == status:
            return info
        assert time.monotonic() < give_up_at, info
        time.sleep(0.02)


# ---- call -------------------------------------------------------------------------------------------


def test_call_writes_the_answer(cli: Perdure) -> None:
    done = cli("call", "Greeter/greet", '"Ada"')
    assert (done.code, done.stdout, done.stderr) == (0, '"Hello Ada"\n', "")


def test_call_reads_standard_input_and_takes_any_key(cli: Perdure) -> None:
    assert cli("call", "Counter/a b/c/add", "-", stdin=b"3").stdout == "3\n"
    assert cli("call", "Counter/a b/c/get").stdout == "3\n"


def test_call_with_an_idempotency_key_runs_once(cli: Perdure) -> None:
    for _ in range(2):
        done = cli("call", "Counter/idem/add", "1", "--idempotency-key", "k", "--json")
        assert done.json()["result"] == 1


def test_call_with_a_delay_is_accepted_for_later(cli: Perdure) -> None:
    id = _sent(cli, "Counter/later/add", "1", "--delay", "1h")
    assert _await_status(cli, id, "scheduled")["handler"] == "add"


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("Greeter/refuse",), 1, "sold out (409)"),
        (("Greeter/nope",), 4, "handler 'nope' was not found"),
        (("Nobody/x",), 4, "service 'Nobody' not found"),
        (("Counter/a/add", "{"), 2, "the input is not JSON"),
        (("Counter/a/add", '"one"'), 1, "expects int"),
        (("Counter/a/reset",), 1, "not public"),
        (("nonsense",), 2, "is not SERVICE/HANDLER"),
        (("Counter/a/add", "1", "--delay", "1s"), 2, "--delay needs --send"),
        (("Counter/a/add", "1", "--send", "--delay", "soon"), 2, "not a duration"),
        ((), 2, "Missing argument"),
    ],
)
def test_call_ends_with_a_code_and_a_message(
    cli: Perdure, arguments: tuple[str, ...], code: int, told: str
) -> None:
    done = cli("call", *arguments)
    assert done.code == code
    assert told in done.stderr
    assert done.stdout == ""


def test_call_writes_errors_as_json_where_asked_for(cli: Perdure) -> None:
    done = cli("call", "Greeter/refuse", "--json")
    assert (done.code, done.stderr) == (1, "")
    assert (done.json()["status"], done.json()["error"]["message"]) == (409, "sold out")


@pytest.mark.parametrize(
    "arguments",
    [
        ("call", "Greeter/greet", '"x"'),
        ("services",),
        ("invocations", "list"),
        ("state", "get", "A/b"),
    ],
)
def test_without_a_server_the_code_says_so(perdure: Perdure, arguments: tuple[str, ...]) -> None:
    with socket.socket() as unused:  # bound and not listening: nobody else gets the port
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        done = perdure(*arguments, "--url", url)
    assert done.code == 3
    assert "Is the server running?" in done.stderr
    assert "Traceback" not in done.stderr


# ---- services ---------------------------------------------------------------------------------------


def test_services_are_listed_and_described(cli: Perdure) -> None:
    listed = cli("services")
    assert listed.code == 0
    assert "Counter" in listed.stdout
    assert "Greeter" in listed.stdout
    names = [each["name"] for each in cli("services", "--json").json()["services"]]
    assert sorted(names) == ["Cell", "Counter", "Flow", "Greeter", "Mistakes"]
    shown = cli("services", "Counter")
    assert "reset" in shown.stdout
    assert "private" in shown.stdout
    assert cli("services", "Nobody").code == 4


# ---- invocations ------------------------------------------------------------------------------------


def test_an_invocation_is_listed_shown_and_cancelled(cli: Perdure) -> None:
    id = _sent(cli, "Greeter/hold")
    listed = cli("invocations", "list", "--handler", "hold")
    assert listed.code == 0
    assert id in listed.stdout
    ids = [each["id"] for each in cli("invocations", "list", "--json").json()["invocations"]]
    assert id in ids
    shown = cli("invocations", "show", id, "--journal")
    assert "Greeter/hold" in shown.stdout
    assert "input" in shown.stdout.lower()
    assert cli("invocations", "cancel", id).code == 0
    info = _await_status(cli, id, "completed")
    assert info["result"]["failure"]["code"] == 409


def test_an_invocation_is_killed_and_purged(cli: Perdure) -> None:
    id = _sent(cli, "Greeter/hold")
    assert cli("invocations", "purge", id).code == 1  # it is not completed
    killed = cli("invocations", "kill", id)
    assert (killed.code, killed.stdout) == (0, f"{id} is killed\n")
    _await_status(cli, id, "completed")
    assert cli("invocations", "purge", id).code == 0
    assert cli("invocations", "show", id).code == 4


def test_an_invocation_is_paused_and_resumed(cli: Perdure) -> None:
    id = _sent(cli, "Greeter/hold")
    assert cli("invocations", "pause", id).code == 0
    _await_status(cli, id, "paused")
    assert cli("invocations", "resume", id).code == 0
    give_up_at = time.monotonic() + PATIENCE_S
    while cli("invocations", "show", id, "--json").json()["status"] == "paused":
        assert time.monotonic() < give_up_at
    assert cli("invocations", "kill", id, "--json").json() == [
        {"id": id, "status": 200, "ok": True}
    ]


def test_an_invocation_that_gave_up_says_why(cli: Perdure) -> None:
    id = _sent(cli, "Greeter/stumble")
    _await_status(cli, id, "paused")
    assert "always" in cli("invocations", "show", id).stdout
    assert "paused" in cli("invocations", "list", "--status", "paused").stdout


@pytest.mark.parametrize("verb", ["cancel", "kill", "pause", "resume", "purge"])
def test_operations_on_what_is_not_there_say_so(cli: Perdure, verb: str) -> None:
    done = cli("invocations", verb, UNKNOWN_ID)
    assert done.code == 4
    assert UNKNOWN_ID in done.stderr
    malformed = cli("invocations", verb, "nonsense")
    assert malformed.code == 1
    assert "bad format" in malformed.stderr


def test_a_list_with_a_wrong_filter_is_refused(cli: Perdure) -> None:
    done = cli("invocations", "list", "--status", "nonsense")
    assert done.code == 2
    assert "is not one of" in done.stderr
    assert cli("invocations", "list", "--limit", "0").code == 2


def test_a_list_without_matches_is_a_sentence(cli: Perdure) -> None:
    assert cli("invocations", "list", "--key", "nobody").stdout == "No invocations match.\n"


# ---- state ------------------------------------------------------------------------------------------


def test_state_is_read_changed_and_cleared(cli: Perdure) -> None:
    assert cli("call", "Counter/kept/add", "4").code == 0
    assert cli("state", "get", "Counter/kept", "total").stdout == "4\n"
    assert cli("state", "set", "Counter/kept", "total", "40").code == 0
    assert cli("call", "Counter/kept/add", "2").stdout == "42\n"
    assert "total" in cli("state", "get", "Counter/kept").stdout
    assert cli("state", "get", "Counter/kept", "--json").json()["state"]["total"]["json"] == 42
    assert cli("state", "clear", "Counter/kept", "total").code == 0
    assert cli("state", "get", "Counter/kept", "total").code == 4
    assert cli("state", "get", "Counter/kept").stdout == "Counter/kept has no state.\n"
    assert cli("call", "Counter/kept/add", "2").stdout == "2\n"


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("get", "nonsense"), 2, "not SERVICE/KEY"),
        (("get", "Nobody/x"), 4, "'Nobody' does not exist"),
        (("get", "Greeter/x"), 1, "service type Service"),
        (("get", "Counter/none", "total"), 4, "has no state 'total'"),
        (("set", "Counter/none", "total", "{"), 2, "not JSON"),
    ],
)
def test_state_ends_with_a_code_and_a_message(
    cli: Perdure, arguments: tuple[str, ...], code: int, told: str
) -> None:
    done = cli("state", *arguments)
    assert done.code == code
    assert told in done.stderr


# ---- doctor -----------------------------------------------------------------------------------------


@pytest.fixture
def data(nursery: Nursery, perdure: Perdure, tmp_path: Path) -> Path:
    """A store with some of everything, whose server was killed."""
    path = tmp_path / "examined"
    with Server(path, PROGRAM, launch=nursery.launch) as served:
        for target in ("Counter/a/add", "Counter/b/add"):
            assert perdure("call", target, "1", "--url", served.ingress_url).code == 0
        for target in ("Greeter/hold", "Greeter/stumble"):
            assert perdure("call", target, "--send", "--url", served.ingress_url).code == 0
        served.kill()
    return path


def _content(directory: Path) -> dict[str, bytes]:
    files = (each for each in sorted(directory.rglob("*")) if each.is_file())
    return {str(each): each.read_bytes() for each in files}


def test_doctor_finds_a_killed_servers_store_sound_and_changes_nothing(
    perdure: Perdure, data: Path
) -> None:
    before = _content(data)
    done = perdure("doctor", data)
    assert (done.code, done.stderr) == (0, "")
    assert "The store is sound." in done.stdout
    report = perdure("doctor", data, "--json")
    assert report.code == 0
    assert report.json()["sound"] is True
    assert report.json()["tables"]["invocations"]["rows"] == 4
    assert _content(data) == before


def test_doctor_reports_damage(perdure: Perdure, data: Path) -> None:
    log = max((data / "db").glob("*.log"), key=lambda file: file.stat().st_size)
    content = bytearray(log.read_bytes())
    content[len(content) // 2] ^= 0xFF
    log.write_bytes(content)
    before = _content(data)
    done = perdure("doctor", data)
    assert done.code == 1
    assert "Traceback" not in done.stderr
    assert "PROBLEM" in done.stdout or "Error" in done.stderr
    assert _content(data) == before


def test_doctor_leaves_a_live_store_alone(perdure: Perdure, nursery: Nursery, data: Path) -> None:
    with Server(data, PROGRAM, launch=nursery.launch) as served:
        done = perdure("doctor", data)
        assert done.code == 1
        assert f"in use by process {served.pid}" in done.stderr
        assert perdure("call", "Counter/a/add", "1", "--url", served.ingress_url).stdout == "2\n"


def test_doctor_names_what_is_no_store(perdure: Perdure, data: Path, tmp_path: Path) -> None:
    missing = perdure("doctor", tmp_path / "nowhere")
    assert missing.code == 4
    assert "there is no directory" in missing.stderr
    (tmp_path / "empty").mkdir()
    empty = perdure("doctor", tmp_path / "empty")
    assert empty.code in (1, 4)
    assert "Traceback" not in empty.stderr
    shutil.rmtree(data / "db")
    gutted = perdure("doctor", data)
    assert gutted.code == 1
    assert "Traceback" not in gutted.stderr


# ---- help -------------------------------------------------------------------------------------------


def test_help_and_version(perdure: Perdure) -> None:
    shown = perdure("--help")
    assert shown.code == 0
    for command in ("up", "call", "invocations", "state", "services", "doctor"):
        assert command in shown.stdout
    assert perdure("--version").stdout.startswith("perdure, version ")
    wrong = perdure("nonsense")
    assert wrong.code == 2
    assert "No such command 'nonsense'" in wrong.stderr
