"""`perdure replay`: a stored invocation runs here against its journal, and nothing happens but that."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from perdure.gateway.cli import main
from tests.gateway import shop, twisted
from tests.gateway.real import Real, real

FILE = str(Path(shop.__file__))
FAILED, USAGE, NOT_FOUND = 1, 2, 4


@pytest.fixture
def on(tmp_path: Path) -> Iterator[Real]:
    with real(shop.app, tmp_path / "data") as each:
        yield each


def line_of(text: str) -> str:
    """Where ``text`` stands in the services' file."""
    lines = Path(FILE).read_text().splitlines()
    return f"{FILE}:{next(i for i, each in enumerate(lines, 1) if text in each)}"


def send(on: Real, target: str, body: str) -> str:
    sent = json.loads(on.run("call", target, body, "--send", "--json").output)
    return str(sent["invocation_id"])


def ended(on: Real, target: str, body: str) -> str:
    id = send(on, target, body)
    on.await_status(id, "completed")
    return id


def variant(tmp_path: Path, old: str, new: str) -> str:
    """The services' file with one change."""
    text = Path(FILE).read_text()
    assert old in text
    file = tmp_path / "changed_shop.py"
    file.write_text(text.replace(old, new))
    return str(file)


def test_replay_of_an_ended_invocation_matches_and_runs_no_closure(on: Real) -> None:
    id = ended(on, "Shop/ada/order", "3")
    before = len(shop.runs)
    result = on.run("replay", id, FILE)
    assert result.exit_code == 0, result.output
    assert "The handler ended as recorded." in result.output
    assert "Matched commands: 6 of 6." in result.output
    assert len(shop.runs) == before


def test_replay_ends_with_the_record_and_says_what_is_awaited_and_where(on: Real) -> None:
    id = send(on, "Shop/ada/order", "13")
    on.await_status(id, "running")
    found: dict[str, object] = {}
    while found.get("text") != "awakeable 17":  # until it has come so far
        result = on.run("replay", id, FILE, "--json")
        found = json.loads(result.output)
    assert found["outcome"] == "waits"
    assert found["where"] == line_of("return await future")


@pytest.mark.parametrize(
    ("until", "outcome", "text", "place"),
    [
        (1, "next", "get_eager_state 'total'", 'ctx.get("total"'),
        (2, "next", "set_state 'total'", 'ctx.set("total"'),
        (3, "next", "run 'ticket'", "run_typed"),
        (4, "runs", "run 'ticket'", "run_typed"),
        (5, "next", "call Stock/reserve", "service_call"),
        (6, "waits", "call Stock/reserve", "service_call"),
        (10, "ends", "output", ""),
    ],
)
def test_replay_until_an_entry_stops_before_it(
    on: Real, until: int, outcome: str, text: str, place: str
) -> None:
    id = ended(on, "Shop/ada/order", "3")
    found = json.loads(on.run("replay", id, FILE, "--until", str(until), "--json").output)
    assert (found["outcome"], found["entries_replayed"]) == (outcome, until)
    assert found["text"].startswith(text)
    if place:
        assert found["where"] == line_of(place)


def test_replay_of_a_plain_function_stops_in_its_thread(on: Real) -> None:
    id = ended(on, "Shop/ada/plainly", "5")
    found = json.loads(on.run("replay", id, FILE, "--until", "2", "--json").output)
    assert (found["outcome"], found["where"]) == ("next", line_of('ctx.set("count"'))
    found = json.loads(on.run("replay", id, FILE, "--until", "4", "--json").output)
    assert (found["outcome"], found["where"]) == ("runs", line_of('ctx.run("note"'))
    assert "ended as recorded" in on.run("replay", id, FILE).output


def test_a_handler_that_diverges_is_explained_as_in_production(on: Real, tmp_path: Path) -> None:
    id = ended(on, "Shop/ada/order", "3")
    file = variant(tmp_path, '"total", total + n)', '"total", total + n + 1)')
    result = on.run("replay", id, file)
    assert result.exit_code == FAILED
    assert "journal mismatch at command 2 of Shop/order" in result.output
    assert f"({file}:" in result.output
    assert "recorded: set_state 'total' value=3" in result.output
    assert "issued:   set_state 'total' value=4" in result.output


def test_an_exception_that_is_no_answer_is_told_with_its_place(on: Real) -> None:
    id = send(on, "Shop/eve/broken", "1")
    on.await_status(id, "backing-off")
    result = on.run("replay", id, FILE)
    assert result.exit_code == FAILED
    assert "ValueError('not an answer')" in result.output
    assert line_of('raise ValueError("not an answer")') in result.output


def test_state_is_what_the_journal_says_and_else_the_present_one_with_a_remark(on: Real) -> None:
    first = ended(on, "Shop/ada/order", "3")
    second = ended(on, "Shop/ada/order", "4")
    ended(on, "Shop/ada/plainly", "5")
    found = json.loads(on.run("replay", second, FILE, "--json").output)
    assert found["state_at_start"]["total"]["json"] == 3
    assert found["state_unsure"] == ["count"]
    assert found["state_at_end"]["total"]["json"] == 7
    assert (
        "total" not in json.loads(on.run("replay", first, FILE, "--json").output)["state_at_start"]
    )
    assert "these values are the present ones: 'count'" in on.run("replay", second, FILE).output


def test_replay_reads_a_stopped_servers_directory_and_leaves_it_alone(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with real(shop.app, data) as on:
        id = ended(on, "Shop/ada/order", "3")
        busy = CliRunner().invoke(main, ["replay", id, FILE, "--data", str(data)])
        assert busy.exit_code == FAILED
        assert "is in use by process" in busy.output
    before = {each.name: each.read_bytes() for each in (data / "db").iterdir() if each.is_file()}
    result = CliRunner().invoke(main, ["replay", id, FILE, "--data", str(data)])
    assert result.exit_code == 0, result.output
    assert "ended as recorded" in result.output
    after = {each.name: each.read_bytes() for each in (data / "db").iterdir() if each.is_file()}
    assert before == after
    assert (
        CliRunner().invoke(main, ["replay", id, FILE, "--data", "nowhere"]).exit_code == NOT_FOUND
    )


def test_what_cannot_be_replayed_says_why(on: Real, tmp_path: Path) -> None:
    id = ended(on, "Shop/ada/order", "3")
    other = tmp_path / "other_services.py"
    other.write_text(
        "import perdure\nother = perdure.Service('Other')\n"
        "@other.handler()\nasync def f(ctx: perdure.Context) -> None: ...\n"
    )
    wrong = on.run("replay", id, str(other))
    assert wrong.exit_code == FAILED
    assert "'Shop', which no TARGET has; they have: Other" in wrong.output
    assert on.run("replay", id, "no_such_file.py").exit_code == USAGE
    assert on.run("replay", id, FILE, "--until", "99").exit_code == USAGE
    unknown = on.run("replay", "inv_1foAirY4KKzi3nyGpLAzWjLgf9RFzKh2Li", FILE)
    assert unknown.exit_code == NOT_FOUND
    assert on.run("replay", "nonsense", FILE).exit_code == FAILED
    official = tmp_path / "official_services.py"
    official.write_text("import restate\napp = restate.app([])\n")
    foreign = on.run("replay", id, str(official))
    assert foreign.exit_code == USAGE
    assert "another SDK" in foreign.output


def test_the_debugger_stops_at_the_first_line_and_where_the_replay_ends(on: Real) -> None:
    id = ended(on, "Shop/ada/order", "3")
    ran = subprocess.run(
        [sys.executable, "-m", "perdure", "replay", id, FILE, "--until", "5", "--pdb",
         "--url", on.admin_url],
        input="p 'n is', n\nnext\np 'total is', total\ncontinue\np 'ticket is', ticket\nquit\n",
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    for shown in ("('n is', 3)", "('total is', 0)", "('ticket is', 't-1')", "call Stock/reserve"):
        assert shown in ran.stdout


def test_the_debugger_works_in_plain_functions(on: Real) -> None:
    id = ended(on, "Shop/ada/plainly", "5")
    ran = subprocess.run(
        [sys.executable, "-m", "perdure", "replay", id, FILE, "--pdb", "--url", on.admin_url],
        input="p 'n is', n\ncontinue\n", capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert "('n is', 5)" in ran.stdout
    assert "ended as recorded" in ran.stdout


# ---- handlers that wait in less simple ways ------------------------------------------------------

TWISTED = str(Path(twisted.__file__))


@pytest.fixture
def crooked(tmp_path: Path) -> Iterator[Real]:
    with real(twisted.app, tmp_path / "data") as each:
        yield each


@pytest.mark.parametrize("handler", ["combined", "in_tasks", "greedy"])
def test_every_prefix_of_a_journal_can_be_replayed(crooked: Real, handler: str) -> None:
    sent = json.loads(crooked.run("call", f"Twisted/{handler}", "--send", "--json").output)
    id = sent["invocation_id"]
    crooked.await_status(id, "completed")
    whole = json.loads(crooked.run("replay", id, TWISTED, "--json").output)
    assert whole["outcome"] == "matched"
    for until in range(1, whole["entries_stored"]):
        result = crooked.run("replay", id, TWISTED, "--until", str(until), "--json")
        assert result.exit_code == 0, result.output
        assert json.loads(result.output)["outcome"] in ("next", "runs", "waits", "ends")


def test_a_cancelled_handler_is_replayed_through_its_compensation(crooked: Real) -> None:
    sent = json.loads(crooked.run("call", "Twisted/careful", "--send", "--json").output)
    id = sent["invocation_id"]
    crooked.await_status(id, "running")
    crooked.run("invocations", "cancel", id)
    crooked.await_status(id, "completed")
    assert json.loads(crooked.run("replay", id, TWISTED, "--json").output)["outcome"] == "matched"


def test_a_workflow_draws_the_same_chance_and_waits_for_its_promise(crooked: Real) -> None:
    sent = json.loads(crooked.run("call", "Flow/one/run", "--send", "--json").output)
    id = sent["invocation_id"]
    found: dict[str, object] = {}
    while found.get("outcome") != "waits":
        found = json.loads(crooked.run("replay", id, TWISTED, "--json").output)
    assert found["text"] == "get_promise 'told'"
    crooked.run("call", "Flow/one/tell", '"yes"')
    crooked.await_status(id, "completed")
    assert json.loads(crooked.run("replay", id, TWISTED, "--json").output)["outcome"] == "matched"
