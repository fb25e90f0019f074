"""`perdure check`: the journals in flight are replayed with new code, and what would break is listed."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from perdure.gateway.check_sources import Homes
from perdure.gateway.checking import Candidate, Code, Verdict
from perdure.gateway.cli import main
from perdure.journal.recording import Recording
from tests.gateway import shop
from tests.gateway.real import Real, real

FILE = str(Path(shop.__file__))
FAILED, USAGE, NOT_FOUND = 1, 2, 4


@pytest.fixture
def on(tmp_path: Path) -> Iterator[Real]:
    with real(shop.app, tmp_path / "data") as each:
        yield each


def send(on: Real, target: str, body: str) -> str:
    sent = json.loads(on.run("call", target, body, "--send", "--json").output)
    return str(sent["invocation_id"])


def waiting(on: Real, key: str = "ada") -> str:
    """An order that came as far as its awakeable."""
    id = send(on, f"Shop/{key}/order", "13")
    found: dict[str, object] = {}
    while found.get("text") != "awakeable 17":
        on.await_status(id, "running")
        found = json.loads(on.run("replay", id, FILE, "--json").output)
    return id


def variant(tmp_path: Path, *changes: tuple[str, str]) -> str:
    """The services' file with some changes."""
    text = Path(FILE).read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    file = tmp_path / "changed_shop.py"
    file.write_text(text)
    return str(file)


def check(against: str | Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["check", *arguments, "--against", str(against)])


def found(result: Result) -> Any:
    return json.loads(result.stdout)


def test_the_same_code_breaks_nothing_and_runs_no_closure(on: Real) -> None:
    waiting(on)
    before = len(shop.runs)
    result = check(on.admin_url, FILE)
    assert result.exit_code == 0, result.output
    assert result.output == "Checked 1 invocation.\nNothing would break.\n"
    assert len(shop.runs) == before


def test_a_mismatch_is_told_with_both_commands_file_and_line_under_its_handler(
    on: Real, tmp_path: Path
) -> None:
    first, second = waiting(on, "ada"), waiting(on, "eve")
    file = variant(tmp_path, ('"total", total + n)', '"total", total + n + 1)'))
    result = check(on.admin_url, file)
    assert result.exit_code == FAILED
    line = next(
        i for i, each in enumerate(Path(file).read_text().splitlines(), 1) if "+ 1)" in each
    )
    assert "Shop/order: 2 of 2 would break" in result.output
    for id in (first, second):
        assert id in result.output
    assert f"journal mismatch at command 2 of Shop/order ({file}:{line})" in result.output
    assert "recorded: set_state 'total' value=13" in result.output
    assert "issued:   set_state 'total' value=14" in result.output
    assert result.output.endswith("2 invocations would break.\n")


def test_findings_are_counted_in_full_and_shown_in_part(on: Real, tmp_path: Path) -> None:
    waiting(on, "ada"), waiting(on, "eve")
    file = variant(tmp_path, ('"ticket", make_ticket', '"voucher", make_ticket'))
    result = check(on.admin_url, file, "--show", "1")
    assert "2 of 2 would break" in result.output
    assert "  and 1 more\n" in result.output
    document = found(check(on.admin_url, file, "--json"))
    assert (document["checked"], document["breaking"]) == (2, 2)
    findings = document["handlers"][0]["findings"]
    assert [each["verdict"] for each in findings] == ["mismatch", "mismatch"]


def test_a_change_behind_what_is_recorded_breaks_nothing(on: Real, tmp_path: Path) -> None:
    waiting(on)
    file = variant(tmp_path, ('return f"{ticket}-{got}"', 'return "sold"'))
    assert check(on.admin_url, file).exit_code == 0


def test_an_invocation_whose_handler_vanished_is_listed(on: Real, tmp_path: Path) -> None:
    id = waiting(on)
    file = variant(tmp_path, ("async def order(", "async def purchase("))
    result = check(on.admin_url, file)
    assert result.exit_code == FAILED
    assert f"{id}  Shop/ada/order" in result.output
    assert "service 'Shop' has no handler 'order', only purchase, broken, plainly" in result.output


def test_an_exception_counts_only_where_there_was_none_before(on: Real, tmp_path: Path) -> None:
    send_failing = send(on, "Shop/eve/broken", "1")
    on.await_status(send_failing, "backing-off")
    result = check(on.admin_url, FILE)
    assert result.exit_code == 0, result.output
    assert "(it fails already, and still would)" in result.output
    waiting(on)
    line = "    ticket = await ctx.run_typed"
    file = variant(tmp_path, (line, "    raise KeyError('oh')\n" + line))
    document = found(check(on.admin_url, file, "--json"))
    verdicts = {each["handler"]: each["findings"][0]["verdict"] for each in document["handlers"]}
    assert verdicts == {"Shop/broken": "still-fails", "Shop/order": "raises"}
    assert document["handlers"][1]["findings"][0]["where"].startswith(file)
    assert document["breaking"] == 1


def test_a_handler_that_waits_for_what_replay_does_not_give_is_stuck(
    on: Real, tmp_path: Path
) -> None:
    waiting(on)
    line = "    ticket = await ctx.run_typed"
    file = variant(
        tmp_path,
        ("import perdure\n", "import asyncio\n\nimport perdure\n"),
        (line, "    await asyncio.Event().wait()\n" + line),
    )
    result = check(on.admin_url, file, "--timeout", "0.2", "--json")
    assert result.exit_code == FAILED
    assert found(result)["handlers"][0]["findings"][0]["verdict"] in ("stuck", "mismatch")


def test_completed_invocations_are_checked_where_asked_for_newest_first(
    on: Real, tmp_path: Path
) -> None:
    for n in ("3", "4"):
        id = send(on, "Shop/ada/order", n)
        on.await_status(id, "completed")
    file = variant(tmp_path, ('return f"{ticket}-{got}"', 'return "sold"'))
    assert check(on.admin_url, file).exit_code == 0
    document = found(check(on.admin_url, file, "--completed", "1", "--json"))
    assert (document["checked"], document["breaking"]) == (1, 1)
    assert document["handlers"][0]["findings"][0]["id"] == id
    assert "issued:   output" in document["handlers"][0]["findings"][0]["text"]


def test_a_stopped_servers_directory_gives_the_same_and_stays_as_it_is(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with real(shop.app, data) as on:
        send(on, "Shop/ada/order", "3")
        id = waiting(on, "eve")
        failing = send(on, "Shop/bob/broken", "1")
        on.await_status(failing, "backing-off")
        busy = check(data, FILE)
        assert busy.exit_code == FAILED
        assert "is in use by process" in busy.output
    before = {each.name: each.read_bytes() for each in (data / "db").iterdir() if each.is_file()}
    same = check(data, FILE)
    assert same.exit_code == 0, same.output
    file = variant(tmp_path, ('"ticket", make_ticket', '"voucher", make_ticket'))
    document = found(check(data, file, "--json", "--completed", "5"))
    by_handler = {each["handler"]: each for each in document["handlers"]}
    assert by_handler["Shop/order"]["breaking"] == 2
    assert id in [each["id"] for each in by_handler["Shop/order"]["findings"]]
    assert by_handler["Shop/broken"]["findings"][0]["verdict"] == "still-fails"
    after = {each.name: each.read_bytes() for each in (data / "db").iterdir() if each.is_file()}
    assert before == after


def test_what_cannot_be_checked_says_why(on: Real, tmp_path: Path) -> None:
    assert check(tmp_path / "nowhere", FILE).exit_code == NOT_FOUND
    assert check(on.admin_url, "no_such_file.py").exit_code == USAGE
    official = tmp_path / "official_services.py"
    official.write_text("import restate\napp = restate.app([])\n")
    foreign = check(on.admin_url, str(official))
    assert foreign.exit_code == USAGE
    assert "another SDK" in foreign.output


def test_what_runs_in_another_deployment_is_left_out() -> None:
    here = ("dp_here", "inprocess:", [("Shop", 2)])
    there = ("dp_there", "http://there:9080/", [("Shop", 1), ("Far", 1)])
    homes = Homes([here, there])
    assert not homes.is_elsewhere(recorded("Shop"))
    assert homes.is_elsewhere(recorded("Far"))
    assert homes.is_elsewhere(recorded("Shop", "dp_there"))
    assert not homes.is_elsewhere(recorded("Nowhere"))
    version = Homes([here, ("dp_version", "inprocess:code/4f2a", [("Shop", 3)])])
    assert not version.is_elsewhere(recorded("Shop", "dp_version"))
    assert not version.is_elsewhere(recorded("Shop"))
    candidates = [Candidate(recorded("Far"), is_elsewhere=True), Candidate(recorded("Nowhere"))]
    report = asyncio.run(Code([], None).report(candidates))
    assert (report.elsewhere, report.breaking) == (1, 1)
    assert report.handlers["Nowhere/f"].findings[0].verdict is Verdict.VANISHED


def recorded(service: str, deployment_id: str = "") -> Recording:
    return Recording(
        id="inv_x", service=service, handler="f", key=None, seed=0, attempt=1, holds_key=False,
        entries=(), state={}, deployment_id=deployment_id,
    )  # fmt: skip
