"""Acceptance list of the official tool (cli 9): 4 and 5, invocations listed, described and operated on."""

import re

import pytest

from tests.cli_official.conftest import Restate
from tests.gateway.sql.conftest import Filled, send

STATUSES = {
    "scheduled": {"scheduled"},
    "pending": {"pending"},
    "ready": set(),
    "running": {"running", "workflow"},
    "suspended": {"suspended"},
    "backing-off": {"backing"},
    "paused": {"paused"},
    "completed": {"done", "refused", "chain"},
}


def named(filled: Filled, said: str) -> set[str]:
    return {name for name, id in filled.ids.items() if id in said}


def test_list_shows_what_is_not_over(filled: Filled, restate: Restate) -> None:
    found = named(filled, restate("invocations", "list").said)
    assert found == set(filled.ids) - STATUSES["completed"]


def test_list_shows_everything(filled: Filled, restate: Restate) -> None:
    assert named(filled, restate("invocations", "list", "--all").said) == set(filled.ids)


@pytest.mark.parametrize("status", STATUSES)
def test_list_by_status(filled: Filled, restate: Restate, status: str) -> None:
    found = named(filled, restate("invocations", "list", "--status", status).said)
    assert found == STATUSES[status]


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (("--service", "Box"), {"running", "pending"}),
        (("--handler", "hold"), {"running"}),
        (("--key", "locked"), {"running", "pending"}),
        (("--virtual-objects-only",), {"running", "pending"}),
        (("--zombie",), set()),
        (("--completion-result", "failure"), {"refused"}),
    ],
)
def test_list_by_other_filters(
    filled: Filled, restate: Restate, arguments: tuple[str, ...], names: set[str]
) -> None:
    assert named(filled, restate("invocations", "list", *arguments).said) == names


def test_list_of_nothing(restate: Restate) -> None:
    assert "Showing 0/0 invocations." in restate("invocations", "list", "--service", "Nobody").said


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("done", ["Box/a/put", "completed", "Command: SetState"]),
        ("chain", ["Desk/chain", "Command: Call", "Box/called/put", "Command: Run", "shout"]),
        ("suspended", ["suspended", "Command: Sleep"]),
        ("backing", ["backing-off", "RuntimeError('for now')"]),
        ("paused", ["paused"]),
        ("running", ["running", "Box/locked/hold"]),
        ("pending", ["pending"]),
    ],
)
def test_describe(filled: Filled, restate: Restate, name: str, words: list[str]) -> None:
    said = restate("invocations", "describe", filled.ids[name]).said
    for each in ["Invocation Progress", *words]:
        assert each in said


def test_describe_of_what_is_not_there(restate: Restate) -> None:
    unknown = "inv_1gXHZYjYZ24M0VooDNnlwh2kTnWTmiOSaJ"
    assert (
        f"Invocation {unknown} not found!"
        in restate("invocations", "describe", unknown, code=1).said
    )
    assert "non valid invocation id" in restate("invocations", "describe", "inv_1x", code=1).said


# ---- operations ----------------------------------------------------------------------------------


def status(filled: Filled, id: str) -> str:
    return str(filled.rows(f"select status from sys_invocation where id = '{id}'")[0]["status"])


def held(filled: Filled, key: str) -> str:
    """A new invocation that waits, and what it needs to be seen as running."""
    id = send(filled.server.ingress_url, f"Box/{key}/hold")
    filled.await_rows(
        f"select status from sys_invocation where id = '{id}'", [{"status": "running"}]
    )
    return id


@pytest.mark.parametrize(
    "form", ["{id}", "Box/{key}", "Box/{key}/hold"], ids=["id", "key", "key and handler"]
)
@pytest.mark.parametrize("verb", ["cancel", "kill"])
def test_cancel_and_kill(filled: Filled, restate: Restate, form: str, verb: str) -> None:
    key = f"{verb}-{len(form)}"
    id = held(filled, key)
    said = restate("invocations", verb, "-y", form.format(id=id, key=key)).said
    assert "[OK]" in said
    query = f"select completion_result as r from sys_invocation where id = '{id}'"
    filled.await_rows(query, [{"r": "failure"}])


def test_nothing_to_cancel(restate: Restate) -> None:
    said = restate("invocations", "cancel", "-y", "Nobody", code=1).said
    assert "No invocations found for query Nobody!" in said


def test_pause_and_resume(filled: Filled, restate: Restate) -> None:
    id = held(filled, "paused-by-hand")
    assert "[OK]" in restate("invocations", "pause", "-y", id).said
    filled.await_rows(
        f"select status from sys_invocation where id = '{id}'", [{"status": "paused"}]
    )
    assert "[OK]" in restate("invocations", "resume", "-y", id).said
    filled.await_rows(
        f"select status from sys_invocation where id = '{id}'", [{"status": "running"}]
    )
    restate("invocations", "kill", "-y", id)


def test_purge(filled: Filled, restate: Restate) -> None:
    id = held(filled, "purged")
    restate("invocations", "kill", "-y", id)
    assert "[OK]" in restate("invocations", "purge", "-y", id).said
    filled.await_rows(f"select id from sys_invocation where id = '{id}'", [])


def test_restart_as_new(filled: Filled, restate: Restate) -> None:
    said = restate("invocations", "restart-as-new", "-y", filled.ids["refused"]).said
    new = next(each for each in re.findall(r"inv_\w+", said) if each != filled.ids["refused"])
    query = f"select restarted_from, invoked_by from sys_invocation where id = '{new}'"
    expected = {"restarted_from": filled.ids["refused"], "invoked_by": "restart_as_new"}
    filled.await_rows(query, [expected])
