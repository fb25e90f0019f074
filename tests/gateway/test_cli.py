"""The command line against a served runtime: output, `--json`, exit codes, messages that help."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import httpx
import pytest
from click.testing import CliRunner, Result

from perdure.actors.processes.hygiene import free_port
from perdure.gateway import cli
from perdure.gateway.cli import main
from perdure.gateway.cli_http import error_text
from perdure.gateway.settings import Settings
from perdure.journal import entries, keys
from perdure.journal.entries import Failure, Outcome, Value
from perdure.journal.requests import InvocationInfo, Invoke, Op, OpResult
from tests.gateway.runtime import NOW_MS, MemoryRuntime
from tests.gateway.serving import Served, serving
from tests.journal.stores import open_small, put

ID = "inv_1foAirY4KKzi3nyGpLAzWjLgf9RFzKh2Li"
OTHER_ID = "inv_12kpUQONmeFb40HPiUbKSfrH18FxSmvYzH"
OK, ANSWER_IS_ERROR, USAGE, CANNOT_CONNECT, NOT_FOUND = range(5)


@contextmanager
def background(runtime: MemoryRuntime, config: Settings | None = None) -> Iterator[Served]:
    """A gateway on a loop of its own thread, for commands that block theirs."""
    ready: list[Served] = []
    is_ready = threading.Event()

    async def serve() -> None:
        async with serving(runtime, config) as on:
            ready.append(on)
            stop = asyncio.Event()
            stops.append((asyncio.get_running_loop(), stop))
            is_ready.set()
            await stop.wait()

    stops: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []
    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    is_ready.wait()
    try:
        yield ready[0]
    finally:
        loop, stop = stops[0]
        loop.call_soon_threadsafe(stop.set)
        thread.join()


@pytest.fixture
def runtime() -> MemoryRuntime:
    return MemoryRuntime()


@pytest.fixture
def run(runtime: MemoryRuntime) -> Iterator[Callable[..., Result]]:
    with background(runtime) as on:
        env = {
            "PERDURE_INGRESS_URL": on.gateway.ingress_url,
            "PERDURE_ADMIN_URL": on.gateway.admin_url,
        }
        yield lambda *arguments, **rest: CliRunner().invoke(main, arguments, env=env, **rest)


Run = Callable[..., Result]


def test_help_lists_the_commands_and_the_exit_codes() -> None:
    result = CliRunner().invoke(main, ["--help"])
    for word in ("up", "call", "invocations", "state", "services", "doctor", "cannot connect"):
        assert word in result.output
    assert CliRunner().invoke(main, ["--version"]).output.startswith("perdure, version ")
    for command in main.list_commands(click.Context(main)):
        assert CliRunner().invoke(main, [command, "--help"]).exit_code == OK


def test_call_writes_the_answer(run: Run, runtime: MemoryRuntime) -> None:
    result = run("call", "Greeter/greet", '"Bob"')
    assert (result.exit_code, result.stdout) == (OK, '"Bob"\n')
    result = run("call", "Greeter/greet", '"Bob"', "--json")
    document = json.loads(result.stdout)
    assert document["status"] == 200
    assert document["result"] == "Bob"
    assert document["invocation_id"].startswith("inv_1")
    assert run("call", "Greeter/greet", "-", input="[1]").stdout == "[1]\n"


@pytest.mark.parametrize("key", ["alice", "a/b", "..", ".", "", "ключ", "50%", "a b?#", "add/send"])
def test_call_takes_any_key_as_it_stands(run: Run, runtime: MemoryRuntime, key: str) -> None:
    result = run("call", f"Counter/{key}/add", "1")
    assert result.exit_code == OK
    assert runtime.invokes[-1].key == key


def test_call_sends_with_delay_and_idempotency_key(run: Run, runtime: MemoryRuntime) -> None:
    arguments = (
        "call",
        "Counter/k/add",
        "1",
        "--send",
        "--delay",
        "1h 30m",
        "--idempotency-key",
        "i",
    )
    first = json.loads(run(*arguments).stdout)
    assert first["status"] == "Accepted"
    assert "executionTime" in first
    again = json.loads(run(*arguments, "--json").stdout)["result"]
    assert again["status"] == "PreviouslyAccepted"
    assert runtime.invokes[0].delay_ms == 5_400_000
    assert runtime.invokes[0].idempotency_key == "i"


def test_a_failure_is_an_exit_code_and_a_message(run: Run, runtime: MemoryRuntime) -> None:
    async def fail(invoke: Invoke) -> Outcome:
        return Failure(418, "no\x1b[31m tea")

    runtime.functions["Greeter/greet"] = fail
    result = run("call", "Greeter/greet")
    assert result.exit_code == ANSWER_IS_ERROR
    assert result.stderr == "Error: no\\x1b[31m tea (418)\n"
    result = run("call", "Greeter/greet", "--json")
    assert result.exit_code == ANSWER_IS_ERROR
    assert json.loads(result.stdout)["error"]["code"] == 418
    result = run("call", "Nope/greet")
    assert result.exit_code == NOT_FOUND
    assert "service 'Nope' not found" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["call", "Greeter"], "is not SERVICE/HANDLER"),
        (["call", "/greet"], "is not SERVICE/HANDLER"),
        (["call", "Greeter/greet", "Bob"], "is not JSON"),
        (["call", "Greeter/greet", "--delay", "1s"], "--delay needs --send"),
        (["call", "Greeter/greet", "--send", "--delay", "1x"], "is not a unit"),
        (["call", "Greeter/greet", "--idempotency-key", "ä"], "visible ASCII"),
        (["call", "Greeter/greet", "--url", "localhost"], "is not a URL"),
        (["state", "get", "Counter"], "is not SERVICE/KEY"),
        (["state", "set", "Counter/k", "n", "x"], "is not JSON"),
        (["invocations", "cancel"], "Missing argument"),
        (["serve"], "Missing argument"),
        (["up", "x.py", "--set", "a"], "expects KEY=VALUE"),
        (["up", "x.py", "--set", "log.levle=info"], "did you mean 'log.level'"),
        (["up", "x.py", "--ingress", "8080"], "is not an address"),
        (["up", "x.py", "--config", "/nonexistent.toml"], "does not exist"),
    ],
)
def test_wrong_usage_is_2_and_says_what_is_expected(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == USAGE
    assert message in result.stderr


def test_no_server_is_3_and_says_how_to_start_one() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    for arguments in (["call", "Greeter/greet"], ["services"], ["invocations", "kill", ID]):
        result = CliRunner().invoke(main, [*arguments, "--url", url])
        assert result.exit_code == CANNOT_CONNECT
        assert f"cannot connect to {url}" in result.stderr
        assert "perdure up" in result.stderr


def test_services_are_listed_and_shown(run: Run) -> None:
    result = run("services")
    assert result.stdout.splitlines()[0].split() == [
        "SERVICE",
        "TYPE",
        "REVISION",
        "ACCESS",
        "HANDLERS",
    ]
    assert "VirtualObject" in result.stdout
    assert "secret" in run("services", "Greeter").stdout
    assert "private" in run("services", "Greeter").stdout
    assert json.loads(run("services", "--json").stdout)["services"][0]["name"] == "Greeter"
    assert json.loads(run("services", "Flow", "--json").stdout)["ty"] == "Workflow"
    assert run("services", "X").exit_code == NOT_FOUND


def info(name: str, status: str = "running") -> InvocationInfo:
    return InvocationInfo(name, "Counter", "add", "k", status, NOW_MS, NOW_MS, 2, 1, 3, "ingress")


def test_invocations_are_listed_and_shown(run: Run, runtime: MemoryRuntime) -> None:
    assert "There are no invocations." in run("invocations", "list").stdout
    runtime.infos = {ID: info(ID), OTHER_ID: info(OTHER_ID, "paused")}
    runtime.journals[ID] = [
        entries.Input((), b"1"),
        entries.SetState("n", b"2"),
        entries.Output(Value(b"3")),
    ]
    listed = run("invocations", "list").stdout
    assert ID in listed
    assert "Counter/k/add" in listed
    filters = ("--service", "Counter", "--handler", "add", "--key", "k", "--status", "paused")
    only = json.loads(run("invocations", "list", *filters, "--json").stdout)["invocations"]
    assert [each["id"] for each in only] == [OTHER_ID]
    assert "No invocations match." in run("invocations", "list", "--key", "x").stdout
    shown = run("invocations", "show", ID, "--journal").stdout
    assert "set_state" in shown
    assert "value 3" in shown
    assert (
        len(json.loads(run("invocations", "show", ID, "--journal", "--json").stdout)["journal"])
        == 3
    )
    assert run("invocations", "show", OTHER_ID[:-1] + "0").exit_code == NOT_FOUND
    assert run("invocations", "show", "bad").exit_code == ANSWER_IS_ERROR
    assert run("invocations", "list", "--status", "lost").exit_code == USAGE


def test_further_lines_of_an_error_are_indented_and_escaped() -> None:
    answer = httpx.Response(400, json={"message": "no field\nError: \x1b[2J done"})
    assert error_text(answer, "http://x") == "no field\n  Error: \\x1b[2J done"


def test_the_ingress_in_place_of_the_admin_api_is_told(runtime: MemoryRuntime) -> None:
    with background(runtime) as on:
        result = CliRunner().invoke(main, ["services", "--url", on.gateway.ingress_url])
    assert result.exit_code == ANSWER_IS_ERROR
    assert f"{on.gateway.ingress_url} is the ingress of a server" in result.stderr


@pytest.mark.parametrize("verb", ["cancel", "kill", "pause", "resume", "purge"])
def test_operations_report_each_invocation(run: Run, runtime: MemoryRuntime, verb: str) -> None:
    runtime.operation_results[ID] = OpResult.ACCEPTED
    result = run("invocations", verb, ID)
    assert result.exit_code == OK
    later = "hears of it where its handler next awaits" if verb == "cancel" else "is "
    assert result.stdout.startswith(f"{ID} {later}")
    assert runtime.operations == [(ID, Op(verb))]
    result = run("invocations", verb, ID, OTHER_ID)
    assert result.exit_code == NOT_FOUND
    assert f"'{OTHER_ID}' does not exist" in result.stderr
    runtime.operation_results[OTHER_ID] = OpResult.COMPLETED
    result = run("invocations", verb, ID, OTHER_ID, "--json")
    assert result.exit_code == ANSWER_IS_ERROR
    assert [each["ok"] for each in json.loads(result.stdout)] == [True, False]


def test_state_is_read_set_and_cleared(run: Run, runtime: MemoryRuntime) -> None:
    assert "has no state" in run("state", "get", "Counter/a/b").stdout
    assert run("state", "set", "Counter/a/b", "n", '{"x": 1}').exit_code == OK
    assert (
        run("state", "set", "Counter/a/b", "m", "2").stdout
        == "The state of Counter/a/b is changed.\n"
    )
    assert runtime.states["Counter", "a/b"] == {"n": b'{"x": 1}', "m": b"2"}
    assert run("state", "get", "Counter/a/b", "n").stdout == '{"x": 1}\n'
    assert run("state", "get", "Counter/a/b", "x").exit_code == NOT_FOUND
    assert "m" in run("state", "get", "Counter/a/b").stdout
    assert list(json.loads(run("state", "get", "Counter/a/b", "--json").stdout)["state"]) == [
        "m",
        "n",
    ]
    outcome = json.loads(run("state", "clear", "Counter/a/b", "n", "--json").stdout)
    assert outcome["outcome"] == "done"
    assert runtime.states["Counter", "a/b"] == {"m": b"2"}
    assert run("state", "clear", "Counter/a/b").exit_code == OK
    assert runtime.states["Counter", "a/b"] == {}
    assert run("state", "get", "X/k").exit_code == NOT_FOUND
    assert run("state", "set", "Greeter/k", "n", "1").exit_code == ANSWER_IS_ERROR


def test_a_change_that_was_overtaken_says_so(
    run: Run, runtime: MemoryRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def other(
        service: str, key: str, new_state: dict[str, bytes], version: str | None
    ) -> None:
        runtime.states[service, key] = {"n": b"other"}

    monkeypatch.setattr(runtime, "patch_state", other)
    result = run("state", "set", "Counter/k", "n", "1")
    assert result.exit_code == ANSWER_IS_ERROR
    assert "changed meanwhile" in result.stdout


def test_a_value_with_control_characters_is_escaped(run: Run, runtime: MemoryRuntime) -> None:
    runtime.states["Counter", "k"] = {
        "n\x1b[31m": '"\x9b31m"'.encode(),
        "raw": b"\x1b]52;c;aGk=\x07",
    }
    output = run("state", "get", "Counter/k").stdout
    assert "\x1b" not in output
    assert "\x9b" not in output
    assert "base64:" in output


def make_store(path: Path) -> None:
    async def fill() -> None:
        store = open_small(path)
        await put(store, (keys.META + b"a", b"1"))
        await store.close()

    asyncio.run(fill())


def test_doctor_finds_a_sound_store_sound(tmp_path: Path) -> None:
    make_store(tmp_path / "data")
    result = CliRunner().invoke(main, ["doctor", str(tmp_path / "data")])
    assert result.exit_code == OK
    assert "The store is sound." in result.stdout
    assert "meta" in result.stdout
    result = CliRunner().invoke(main, ["doctor", str(tmp_path / "data"), "--json"])
    report = json.loads(result.stdout)
    assert report["sound"] is True
    assert report["tables"]["meta"]["rows"] == 1


def test_doctor_reports_damage_and_what_is_no_store(tmp_path: Path) -> None:
    data = tmp_path / "data"
    make_store(data)
    (data / "db" / "CURRENT").unlink()
    result = CliRunner().invoke(main, ["doctor", str(data)])
    assert result.exit_code == ANSWER_IS_ERROR
    assert "PROBLEM: " in result.stdout
    result = CliRunner().invoke(main, ["doctor", str(tmp_path / "none")])
    assert result.exit_code == NOT_FOUND
    (tmp_path / "empty").mkdir()
    result = CliRunner().invoke(main, ["doctor", str(tmp_path / "empty")])
    assert result.exit_code == ANSWER_IS_ERROR
    assert "expected a data directory" in result.stderr


def test_doctor_leaves_a_store_that_is_in_use_alone(tmp_path: Path) -> None:
    async def hold() -> None:
        store = open_small(tmp_path / "data")
        result = CliRunner().invoke(main, ["doctor", str(tmp_path / "data")])
        assert result.exit_code == ANSWER_IS_ERROR
        assert result.stderr.startswith("Error: ")
        await store.close()

    asyncio.run(hold())


def test_the_exit_codes_are_what_help_says() -> None:
    assert (cli.Failure.exit_code, cli.CannotConnect.exit_code, cli.NotFound.exit_code) == (1, 3, 4)
