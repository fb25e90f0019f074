"""Restarts, forks, resumes elsewhere, and batches over HTTP (admin 6.1, 6.2 and 7)."""

import asyncio
import base64
from pathlib import Path
from typing import Any

import pytest
import restate

import perdure
from perdure.journal.requests import At, Incompatible, Op, OpResult, Restarted, Which
from tests.actors.remote.hypercorns import hypercorn
from tests.gateway.remotes import Up, up
from tests.gateway.serving import Served, served
from tests.gateway.test_admin import ID, OTHER_ID, error, text

THE = f"The invocation '{ID}' "
DEPLOYMENT = "dp_11nGQpCRmau6ypL82KH2TnP"
NEW = Restarted(OTHER_ID)
INCOMPATIBLE = Incompatible(6, DEPLOYMENT, 5, 5)
BATCHES = "/internal/invocations_batch_operations/"

# ---- restart -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("result", "status", "message"),
    [
        (OpResult.NOT_FOUND, 404, f"The requested invocation '{ID}' does not exist"),
        (OpResult.NOT_COMPLETED, 409, THE + "is still running."),
        (OpResult.NOT_STARTED, 425, THE + "cannot be restarted because it's not running yet."),
        (
            OpResult.UNSUPPORTED,
            422,
            f"Restarting the invocation '{ID}' is not supported. Restarting workflows is not supported, "
            "and restarting invocations created using the old service protocol.",
        ),
        (
            OpResult.NO_INPUT,
            410,
            THE + "cannot be restarted because the input is not available. This indicates that the "
            "journal was already purged, or not retained at all.",
        ),
        (
            OpResult.NO_DEPLOYMENT,
            400,
            f"The given deployment was not found when trying to restart as new the invocation '{ID}'.",
        ),
        (
            OpResult.BAD_PREFIX,
            400,
            f"The prefix of the journal '{ID}' up to 'from' (included) contains some Commands without "
            "respective Completions.",
        ),
        (
            INCOMPATIBLE,
            400,
            THE + f"is running on protocol version '6', while the chosen deployment '{DEPLOYMENT}' "
            "supports the range 5..=5.",
        ),
    ],
)
def test_every_refusal_of_a_restart_has_its_status_and_text(
    result: OpResult | Incompatible, status: int, message: str
) -> None:
    async def test(on: Served) -> None:
        on.runtime.restart_results[ID] = result
        response = await on.admin.patch(f"/v4/invocations/{ID}/restart-as-new")
        assert error(response) == (status, message)

    served(test)


def test_a_restart_answers_the_new_id_and_takes_index_and_deployment() -> None:
    async def test(on: Served) -> None:
        on.runtime.restart_results[ID] = NEW
        for query in ("", "?from=3&deployment=Keep", f"?deployment={DEPLOYMENT}"):
            response = await on.admin.patch(f"/invocations/{ID}/restart-as-new{query}")
            assert response.status_code == 200
            assert response.json() == {"new_invocation_id": OTHER_ID}
        assert on.runtime.restarts == [
            (ID, 0, Which.LATEST, ()),
            (ID, 3, Which.KEEP, ()),
            (ID, 0, At(DEPLOYMENT), ()),
        ]

    served(test)


@pytest.mark.parametrize("index", ["abc", "-1", "1.5", "", "99999999999", "²"])
def test_a_bad_index_is_a_bad_query(index: str) -> None:
    async def test(on: Served) -> None:
        url = f"/invocations/{ID}/restart-as-new"
        status, message = text(await on.admin.patch(url, params={"from": index}))
        assert status == 400
        assert message.startswith("Failed to deserialize query string: ")
        assert on.runtime.restarts == []

    served(test)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("x", "bad format"),
        ("dp_bad", "unrecognized codec version"),
        ("dp_1short", "bad length"),
        ("dp_1" + "-" * 22, "base62 decode error"),
    ],
)
@pytest.mark.parametrize("verb", ["resume", "restart-as-new"])
def test_a_bad_deployment_is_named(verb: str, given: str, reason: str) -> None:
    async def test(on: Served) -> None:
        response = await on.admin.patch(f"/invocations/{ID}/{verb}?deployment={given}")
        expected = f"The query parameter 'deployment' is invalid. Reason: {reason}"
        assert error(response) == (400, expected)

    served(test)


def test_a_fork_takes_an_edited_prefix() -> None:
    async def test(on: Served) -> None:
        on.runtime.restart_results[ID] = NEW
        value = base64.b64encode(b"41").decode()
        body = {"from": 4, "edits": [{"index": 2, "value": value}], "deployment": "keep"}
        response = await on.admin.post(f"/invocations/{ID}/fork", json=body)
        assert response.json() == {"new_invocation_id": OTHER_ID}
        assert on.runtime.restarts == [(ID, 4, Which.KEEP, ((2, b"41"),))]
        bad: tuple[dict[str, Any], ...] = (
            {"edits": [{"index": 2, "value": "no base64"}]},
            {"deployment": "x"},
            {"from": "1"},
        )
        for each in bad:
            assert text(await on.admin.post(f"/invocations/{ID}/fork", json=each))[0] == 422

    served(test)


# ---- resume --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("result", "status", "message"),
    [
        (
            OpResult.DEPLOYMENT_FIXED,
            409,
            THE
            + "is still running or the deployment id is not pinned yet, deployment id cannot be "
            "changed.",
        ),
        (
            OpResult.NO_DEPLOYMENT,
            400,
            f"The given deployment was not found when trying to resume the invocation '{ID}'.",
        ),
        (
            INCOMPATIBLE,
            400,
            THE + f"is running on protocol version '6', while the chosen deployment '{DEPLOYMENT}' "
            "supports the range 5..=5.",
        ),
    ],
)
def test_every_refusal_of_a_resume_elsewhere_has_its_status_and_text(
    result: OpResult | Incompatible, status: int, message: str
) -> None:
    async def test(on: Served) -> None:
        on.runtime.operation_results[ID] = result
        response = await on.admin.patch(f"/invocations/{ID}/resume?deployment={DEPLOYMENT}")
        assert error(response) == (status, message)
        assert on.runtime.choices == [At(DEPLOYMENT)]

    served(test)


# ---- batches -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("op", "result", "reason"),
    [
        ("kill", OpResult.COMPLETED, "was already completed"),
        ("cancel", OpResult.COMPLETED, "was already completed"),
        ("purge", OpResult.NOT_COMPLETED, "is not yet completed"),
        ("purge-journal", OpResult.NOT_COMPLETED, "is not yet completed"),
        ("pause", OpResult.NOT_RUNNING, "is not running, cannot be paused"),
        ("pause", OpResult.COMPLETED, "is not running, cannot be paused"),
        ("resume", OpResult.NOT_STARTED, "is either inboxed or scheduled, cannot be resumed"),
        ("resume", OpResult.COMPLETED, "is completed, cannot be resumed"),
        ("resume", OpResult.NOT_FOUND, "not found"),
    ],
)
def test_a_batch_tells_each_failure(op: str, result: OpResult, reason: str) -> None:
    async def test(on: Served) -> None:
        on.runtime.operation_results = {ID: OpResult.DONE, OTHER_ID: result}
        body = {"invocation_ids": [ID, OTHER_ID]}
        response = await on.admin.post(BATCHES + op, json=body)
        assert response.status_code == 200
        told = f"Invocation '{OTHER_ID}' {reason}"
        failed = [{"invocation_id": OTHER_ID, "error": told}]
        assert response.json() == {"succeeded": [ID], "failed": failed}
        assert on.runtime.operations == [(ID, Op(op)), (OTHER_ID, Op(op))]

    served(test)


def test_a_batch_of_restarts_tells_pairs() -> None:
    async def test(on: Served) -> None:
        on.runtime.restart_results = {ID: NEW, OTHER_ID: OpResult.NOT_COMPLETED}
        body = {"invocation_ids": [ID, OTHER_ID], "deployment": "Keep"}
        response = await on.admin.post(f"/v3{BATCHES}restart-as-new", json=body)
        pair = {"old_invocation_id": ID, "new_invocation_id": OTHER_ID}
        told = f"Invocation '{OTHER_ID}' is still running"
        failed = [{"invocation_id": OTHER_ID, "error": told}]
        assert response.json() == {"succeeded": [pair], "failed": failed}
        assert [each[2] for each in on.runtime.restarts] == [Which.KEEP, Which.KEEP]

    served(test)


def test_every_outcome_has_a_text_in_a_batch() -> None:
    async def test(on: Served) -> None:
        for result in (*OpResult, INCOMPATIBLE):
            on.runtime.operation_results[ID] = on.runtime.restart_results[ID] = result
            for op in (*Op, "restart-as-new"):
                response = await on.admin.post(BATCHES + op, json={"invocation_ids": [ID]})
                assert response.status_code == 200, (op, result)

    served(test)


def test_a_batch_has_a_limit_and_takes_ids_only() -> None:
    async def test(on: Served) -> None:
        on.runtime.operation_results[ID] = OpResult.DONE
        response = await on.admin.post(BATCHES + "kill", json={"invocation_ids": [ID] * 1000})
        assert len(response.json()["succeeded"]) == 1000
        response = await on.admin.post(BATCHES + "kill", json={"invocation_ids": [ID] * 1001})
        expected = "Batch size 1001 exceeds maximum allowed size of 1000"
        assert error(response) == (400, expected)
        response = await on.admin.post(BATCHES + "kill", json={"invocation_ids": [ID, "inv_x"]})
        assert text(response)[0] == 422
        response = await on.admin.post(BATCHES + "revive", json={"invocation_ids": []})
        assert (response.status_code, response.content) == (404, b"")
        response = await on.admin.post(BATCHES + "kill", json={"invocation_ids": []})
        assert response.json() == {"succeeded": [], "failed": []}

    served(test)


# ---- with an engine ------------------------------------------------------------------------------


def greeter(version: str) -> perdure.Service:
    made = perdure.Service("Greeter")

    @made.handler()
    async def greet(ctx: perdure.Context, name: str) -> str:
        word = await ctx.run_typed("word", lambda: version)
        return f"{word} {name} by {version}"

    return made


def official(version: str) -> Any:
    """The same handler on the official SDK."""
    made = restate.Service("Greeter")

    @made.handler()
    async def greet(ctx: restate.Context, name: str) -> str:
        word = await ctx.run_typed("word", lambda: version)
        return f"{word} {name} by {version}"

    return restate.app(services=[made])


async def called(server: Up, name: str) -> str:
    response = await server.ingress.post("/Greeter/greet", json=name)
    assert response.status_code == 200
    return str(response.headers["x-restate-id"])


async def again(server: Up, id: str, **query: str | int) -> tuple[dict[str, Any], str]:
    """Restart, then the new invocation's row and its result."""
    url = f"/invocations/{id}/restart-as-new"
    response = await server.admin.patch(url, params=query)
    assert response.status_code == 200, response.text
    new = response.json()["new_invocation_id"]
    assert new[:16] == id[:16]  # where it is
    assert new != id
    result = await server.ingress.get(f"/restate/invocation/{new}/attach")
    row: dict[str, Any] = (await server.admin.get(f"/invocations/{new}")).json()
    return row, result.json()


def test_a_restart_runs_again_and_knows_where_it_comes_from(tmp_path: Path) -> None:
    async def test() -> None:
        async with up(tmp_path, [greeter("one")]) as server:
            id = await called(server, "Ada")
            row, result = await again(server, id)
            assert result == "one Ada by one"
            assert (row["invoked_by"], row["restarted_from"]) == ("restart_as_new", id)
            assert row["status"] == "completed"
            body = {
                "from": 2,
                "edits": [{"index": 2, "value": base64.b64encode(b'"two"').decode()}],
            }
            forked = await server.admin.post(f"/invocations/{id}/fork", json=body)
            new = forked.json()["new_invocation_id"]
            answer = await server.ingress.get(f"/restate/invocation/{new}/attach")
            assert answer.json() == "two Ada by one"

    asyncio.run(test())


def test_every_prefix_can_be_begun_with(tmp_path: Path) -> None:
    async def test() -> None:
        async with up(tmp_path, [greeter("one")]) as server:
            id = await called(server, "Ada")
            entries = (await server.admin.get(f"/invocations/{id}/journal")).json()["entries"]
            for index in range(len(entries)):
                _, result = await again(server, id, **{"from": index})
                assert result == "one Ada by one"
            url = f"/invocations/{id}/restart-as-new?from={len(entries)}"
            assert (await server.admin.patch(url)).status_code == 400

    asyncio.run(test())


def test_a_prefix_goes_on_in_another_deployment(tmp_path: Path) -> None:
    async def test() -> None:
        async with up(tmp_path) as server, hypercorn(official("one")) as first:
            old = (await server.register(first)).json()["id"]
            id = await called(server, "Ada")
            async with hypercorn(official("two")) as second:
                new = (await server.register(second)).json()["id"]
                assert (await again(server, id))[1] == "two Ada by two"
                assert (await again(server, id, deployment="keep"))[1] == "one Ada by one"
                assert (await again(server, id, **{"from": 1}))[1] == "one Ada by two"
                latest = await again(server, id, **{"from": 1}, deployment=new)
                assert latest[1] == "one Ada by two"
                assert (await again(server, id, **{"from": 1}, deployment=old))[
                    1
                ] == "one Ada by one"
            url = f"/invocations/{id}/restart-as-new?deployment={DEPLOYMENT}"
            assert (await server.admin.patch(url)).status_code == 400

    asyncio.run(test())


def test_a_prefix_of_this_process_goes_on_elsewhere_and_back(tmp_path: Path) -> None:
    async def test() -> None:
        async with up(tmp_path, [greeter("here")]) as server, hypercorn(official("there")) as uri:
            id = await called(server, "Ada")
            here = (await server.admin.get("/deployments")).json()["deployments"][0]["id"]
            assert (await server.register(uri)).status_code == 201
            assert (await again(server, id))[1] == "there Ada by there"
            row, result = await again(server, id, **{"from": 1})
            assert result == "here Ada by there"
            assert (await again(server, row["id"], **{"from": 1}, deployment=here))[1] == (
                "here Ada by here"
            )

    asyncio.run(test())
