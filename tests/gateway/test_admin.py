"""The admin API over real HTTP (admin 1-3, 5, 6; reliability S4, S13)."""

import httpx
import msgspec
import pytest

from perdure.gateway import admin_routes
from perdure.gateway.admin import Admin
from perdure.gateway.settings import Settings
from perdure.journal import entries
from perdure.journal.entries import Failure, Value
from perdure.journal.errors import Overloaded
from perdure.journal.requests import InvocationInfo, LastFailure, Op, OpResult
from perdure.journal.schema import OnMaxAttempts, Options
from tests.gateway.runtime import NOW_MS, MemoryRuntime
from tests.gateway.serving import Served, ask, served

ID = "inv_1foAirY4KKzi3nyGpLAzWjLgf9RFzKh2Li"
OTHER_ID = "inv_12kpUQONmeFb40HPiUbKSfrH18FxSmvYzH"


OF_RESTARTS = {OpResult.UNSUPPORTED, OpResult.NO_INPUT, OpResult.BAD_PREFIX, OpResult.BAD_EDIT}


def error(response: httpx.Response) -> tuple[int, str]:
    body = response.json()
    assert list(body) == ["message", "restate_code"]
    assert body["restate_code"] is None
    assert response.headers["content-type"] == "application/json"
    return response.status_code, body["message"]


def text(response: httpx.Response) -> tuple[int, str]:
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    return response.status_code, response.text


def test_every_route_has_its_operation() -> None:
    admin = Admin(MemoryRuntime(), Settings(), "http://x/")
    served_by_prefix = {"console"}
    found = {name for _, _, name in admin_routes.ROUTES}
    assert found == set(admin.operations) - served_by_prefix


def test_health_and_version_are_answered_under_every_prefix() -> None:
    async def test(on: Served) -> None:
        for prefix in ("", "/v2", "/v3", "/v4"):
            response = await on.admin.get(prefix + "/health")
            assert (response.status_code, response.content) == (200, b"")
            assert (await on.admin.head(prefix + "/health")).status_code == 200
            version = (await on.admin.get(prefix + "/version")).json()
            assert list(version) == [
                "version", "min_admin_api_version", "max_admin_api_version", "ingress_endpoint", "features",
            ]  # fmt: skip
            assert (version["min_admin_api_version"], version["max_admin_api_version"]) == (2, 4)
            assert version["ingress_endpoint"] == on.gateway.ingress_url
            assert not any(version["features"].values())
        members = (await on.admin.get("/cluster-health")).json()["metadata_cluster_health"]
        assert members == {"members": [1]}

    served(test)


def test_other_versions_are_refused() -> None:
    async def test(on: Served) -> None:
        reason = (
            "Unsupported Admin API version V1. This server supports versions between V2 and V4."
        )
        assert text(await on.admin.get("/v1/health")) == (400, reason)
        response = await on.admin.get("/v5/health")
        assert (response.status_code, response.content) == (404, b"")

    served(test)


@pytest.mark.parametrize("path", ["/nowhere", "/services/", "/services//handlers", "//services"])
def test_unknown_paths_are_404_with_an_empty_body(path: str) -> None:
    async def test(on: Served) -> None:
        raw = f"GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n".encode()
        status, _, body = await ask(on.admin_port, raw)
        assert (status, body) == (404, b"")

    served(test)


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", f"/invocations/{ID}/cancel", "PATCH"),
        ("POST", f"/invocations/{ID}/kill", "PATCH"),
        ("OPTIONS", "/services", "GET,HEAD"),
        ("PATCH", f"/invocations/{ID}", "GET,DELETE,HEAD"),
        ("GET", "/services/Counter/state", "POST"),
    ],
)
def test_a_wrong_method_is_405_and_names_the_right_ones(method: str, path: str, allow: str) -> None:
    async def test(on: Served) -> None:
        response = await on.admin.request(method, path)
        assert (response.status_code, response.content) == (405, b"")
        assert response.headers["allow"] == allow

    served(test)


def test_service_metadata_has_its_fields_in_order_and_its_values_in_effect() -> None:
    async def test(on: Served) -> None:
        on.runtime.served["Flow"] = msgspec.structs.replace(
            on.runtime.served["Flow"],
            documentation="words",
            metadata={"team": "a"},
            deployment_id="dp_1",
            revision=3,
            options=Options(
                inactivity_timeout_ms=90_000,
                lazy_state=True,
                retry_max_attempts=5,
                retry_on_max_attempts=OnMaxAttempts.KILL,
            ),
        )
        found = (await on.admin.get("/services/Flow")).json()
        assert list(found) == [
            "name", "ty", "handlers", "documentation", "metadata", "deployment_id", "revision", "public",
            "idempotency_retention", "workflow_completion_retention", "journal_retention",
            "inactivity_timeout", "abort_timeout", "enable_lazy_state", "retry_policy",
        ]  # fmt: skip
        assert found["retry_policy"] == {
            "initial_interval": "500ms", "exponentiation_factor": 2.0, "max_attempts": 5,
            "max_interval": "1m", "on_max_attempts": "Kill",
        }  # fmt: skip
        assert (found["inactivity_timeout"], found["abort_timeout"]) == ("1m 30s", "10m")
        assert found["handlers"][0] == {
            "name": "run", "ty": "Workflow", "public": True, "input_description": "*/*",
            "output_description": "*/*", "retry_policy": {"max_attempts": None},
        }  # fmt: skip
        everything = (await on.admin.get("/services")).json()["services"]
        assert [each["name"] for each in everything] == ["Greeter", "Counter", "Flow"]
        assert everything[2] == found

    served(test)


def test_handler_metadata_shows_what_the_handler_sets() -> None:
    async def test(on: Served) -> None:
        greeter = on.runtime.served["Greeter"]
        greeter.handlers["greet"] = msgspec.structs.replace(
            greeter.handlers["greet"],
            options=Options(
                idempotency_retention_ms=1, abort_timeout_ms=60_000, retry_initial_interval_ms=10
            ),
            input_schema={"type": "string"},
            output_description="JSON string",
            documentation="words",
        )
        found = (await on.admin.get("/services/Greeter/handlers/greet")).json()
        assert found == {
            "name": "greet", "documentation": "words", "idempotency_retention": "1ms",
            "abort_timeout": "1m", "public": True, "input_description": "*/*",
            "output_description": "JSON string", "input_json_schema": {"type": "string"},
            "retry_policy": {"max_attempts": None, "initial_interval": "10ms"},
        }  # fmt: skip
        listed = (await on.admin.get("/services/Greeter/handlers")).json()["handlers"]
        assert listed[0] == found

    served(test)


def test_what_is_not_served_is_404_with_its_name() -> None:
    async def test(on: Served) -> None:
        no_service = (404, "The requested service 'X' does not exist")
        assert error(await on.admin.get("/services/X")) == no_service
        assert error(await on.admin.get("/services/X/handlers")) == no_service
        assert error(await on.admin.get("/services/X/state/k")) == no_service
        for name in ("X", "Greeter"):
            no_handler = (404, f"The requested handler 'h' on service '{name}' does not exist")
            assert error(await on.admin.get(f"/services/{name}/handlers/h")) == no_handler

    served(test)


THE = f"The invocation '{ID}' "
COMPLETED = THE + "was already completed."
NOT_RUNNING = THE + "is not running, cannot be paused."
NOT_STARTED = THE + "is either inboxed or scheduled, cannot be resumed."


@pytest.mark.parametrize(
    ("op", "result", "status", "message"),
    [
        ("cancel", OpResult.ACCEPTED, 202, ""),
        ("cancel", OpResult.DONE, 200, ""),
        ("cancel", OpResult.COMPLETED, 409, COMPLETED),
        ("kill", OpResult.DONE, 200, ""),
        ("kill", OpResult.COMPLETED, 409, COMPLETED),
        ("pause", OpResult.ACCEPTED, 202, ""),
        ("pause", OpResult.DONE, 200, ""),
        ("pause", OpResult.NOT_RUNNING, 409, NOT_RUNNING),
        ("pause", OpResult.COMPLETED, 409, NOT_RUNNING),
        ("resume", OpResult.DONE, 200, ""),
        ("resume", OpResult.NOT_STARTED, 425, NOT_STARTED),
        ("resume", OpResult.COMPLETED, 409, THE + "is completed, cannot be resumed."),
        ("purge", OpResult.DONE, 200, ""),
        ("purge", OpResult.NOT_COMPLETED, 409, THE + "is not yet completed."),
        ("purge-journal", OpResult.DONE, 200, ""),
        ("purge-journal", OpResult.NOT_COMPLETED, 409, THE + "is not yet completed."),
        ("kill", OpResult.NOT_FOUND, 404, f"The requested invocation '{ID}' does not exist"),
    ],
)
def test_operations_answer_as_the_table_says(
    op: str, result: OpResult, status: int, message: str
) -> None:
    async def test(on: Served) -> None:
        on.runtime.operation_results[ID] = result
        response = await on.admin.patch(f"/v4/invocations/{ID}/{op}")
        assert response.status_code == status
        if message:
            assert error(response) == (status, message)
        else:
            assert response.content == b""
        assert on.runtime.operations == [(ID, Op(op))]

    served(test)


def test_every_outcome_of_every_operation_has_an_answer() -> None:
    async def test(on: Served) -> None:
        for result in set(OpResult) - OF_RESTARTS:
            on.runtime.operation_results[ID] = result
            for op in Op:
                response = await on.admin.patch(f"/invocations/{ID}/{op.value}")
                assert response.status_code in (200, 202, 400, 404, 409, 425)

    served(test)


def test_resume_takes_the_known_deployments_only() -> None:
    async def test(on: Served) -> None:
        on.runtime.operation_results[ID] = OpResult.DONE
        for name in ("keep", "Keep", "latest", "Latest"):
            response = await on.admin.patch(f"/invocations/{ID}/resume?deployment={name}")
            assert response.status_code == 200
        status, message = error(await on.admin.patch(f"/invocations/{ID}/resume?deployment=x"))
        assert status == 400
        assert message.startswith("The query parameter 'deployment' is invalid. Reason: ")

    served(test)


def test_a_bad_id_is_400_on_every_invocation_route() -> None:
    async def test(on: Served) -> None:
        bad = (400, "The request field 'invocation_id' is invalid. Reason: bad format")
        assert error(await on.admin.get("/invocations/bad")) == bad
        assert error(await on.admin.get("/invocations/bad/journal")) == bad
        assert error(await on.admin.delete("/invocations/bad")) == bad
        for op in Op:
            assert error(await on.admin.patch(f"/invocations/bad/{op.value}")) == bad

    served(test)


def test_the_deprecated_delete_is_always_accepted() -> None:
    async def test(on: Served) -> None:
        for query, op in (("", Op.CANCEL), ("?mode=kill", Op.KILL), ("?mode=purge", Op.PURGE)):
            assert (await on.admin.delete(f"/invocations/{ID}{query}")).status_code == 202
            assert on.runtime.operations[-1] == (ID, op)
        status, message = text(await on.admin.delete(f"/invocations/{ID}?mode=x"))
        assert status == 400
        assert message.startswith("Failed to deserialize query string: ")

    served(test)


def info(
    name: str, status: str, key: str | None = "k", result: entries.Outcome | None = None
) -> InvocationInfo:
    return InvocationInfo(
        name, "Counter", "add", key, status, NOW_MS, NOW_MS, 2, 1, 1, "ingress", result=result,
        last_failure=LastFailure(500, "boom"),
    )  # fmt: skip


def test_invocations_are_listed_by_filters() -> None:
    async def test(on: Served) -> None:
        on.runtime.infos = {ID: info(ID, "running"), OTHER_ID: info(OTHER_ID, "completed", "j")}
        found = (await on.admin.get("/invocations")).json()["invocations"]
        assert [each["id"] for each in found] == [ID, OTHER_ID]
        query = "/invocations?service=Counter&handler=add&key=j&status=completed&limit=5"
        (only,) = (await on.admin.get(query)).json()["invocations"]
        assert only["id"] == OTHER_ID
        for bad in ("limit=0", "limit=x", "limit=999999", "status=lost"):
            status, message = text(await on.admin.get(f"/invocations?{bad}"))
            assert status == 400
            assert message.startswith("Failed to deserialize query string: ")

    served(test)


def test_one_invocation_is_shown_with_what_is_set() -> None:
    async def test(on: Served) -> None:
        on.runtime.infos = {
            ID: info(ID, "completed", "", Value(b'{"a": 1}')),
            OTHER_ID: info(OTHER_ID, "completed", None, Failure(418, "tea")),
        }
        found = (await on.admin.get(f"/invocations/{ID}")).json()
        assert found["target"] == "Counter//add"
        assert found["key"] == ""
        assert found["created_at"] == "2027-01-15T08:00:00.000000000Z"
        assert found["result"] == {"value": {"base64": "eyJhIjogMX0=", "json": {"a": 1}}}
        assert found["last_failure"]["message"] == "boom"
        assert "idempotency_key" not in found
        other = (await on.admin.get(f"/invocations/{OTHER_ID}")).json()
        assert other["target"] == "Counter/add"
        assert other["result"]["failure"]["message"] == "tea"
        missing = await on.admin.get(f"/invocations/{OTHER_ID[:-1]}0")
        assert missing.status_code == 404

    served(test)


def test_a_journal_is_shown_entry_by_entry() -> None:
    async def test(on: Served) -> None:
        on.runtime.journals[ID] = [
            entries.Input((("a", "b"),), b"1"),
            entries.SetState("n", b"\xff", "name"),
            entries.Completion(1, entries.Void()),
            entries.Output(Value(b'"x"')),
        ]
        found = (await on.admin.get(f"/invocations/{ID}/journal")).json()["entries"]
        assert found == [
            {"index": 0, "type": "input", "at": "2027-01-15T08:00:00.000000000Z", "headers": [["a", "b"]],
             "value": {"base64": "MQ==", "json": 1}},
            {"index": 1, "type": "set_state", "key": "n", "value": {"base64": "/w=="}, "name": "name"},
            {"index": 2, "type": "completion", "completion_id": 1, "result": {"type": "void"}},
            {"index": 3, "type": "output",
             "result": {"type": "value", "content": {"base64": "Ingi", "json": "x"}}},
        ]  # fmt: skip
        assert (await on.admin.get(f"/invocations/{OTHER_ID}/journal")).status_code == 404

    served(test)


def test_state_is_read_with_its_version() -> None:
    async def test(on: Served) -> None:
        on.runtime.states["Counter", "a/b"] = {"note": b'"hello"', "count": b"5"}
        found = (await on.admin.get("/services/Counter/state/a%2Fb")).json()
        assert found == {
            "state": {
                "count": {"base64": "NQ==", "json": 5},
                "note": {"base64": "ImhlbGxvIg==", "json": "hello"},
            },
            "version": "Tg-2Vay-ZHKgGPavIPAKedesSZCxrUWX1P49UxBEblo",
        }
        empty = (await on.admin.get("/services/Counter/state/")).json()
        assert empty == {"state": {}, "version": "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU"}
        refused = await on.admin.get("/services/Greeter/state/k")
        assert error(refused) == (400, "Cannot read state for service type Service")

    served(test)


def test_state_is_replaced_by_bytes_or_texts() -> None:
    async def test(on: Served) -> None:
        body = {"object_key": "k", "new_state": {"a": [49, 48], "b": "ä"}, "unknown": 1}
        response = await on.admin.post("/services/Counter/state", json=body)
        assert (response.status_code, response.content) == (202, b"")
        assert on.runtime.states["Counter", "k"] == {"a": b"10", "b": "ä".encode()}

    served(test)


JSON = {"content-type": "application/json"}


@pytest.mark.parametrize(
    ("path", "headers", "body", "status", "start"),
    [
        ("Counter", {}, b"{}", 415, "Expected request with `Content-Type: application/json`"),
        ("Counter", {"content-type": "text/plain"}, b"{}", 415, "Expected request"),
        ("Counter", JSON, b"{", 400, "Failed to parse the request body as JSON: "),
        ("Counter", JSON, b"{}", 422, "Failed to deserialize the JSON body into the target type: "),
        (
            "Counter",
            JSON,
            b'{"object_key":"k","new_state":{"a":[256]}}',
            422,
            "Failed to deserialize",
        ),
        ("Counter", JSON, b'{"object_key":"k","new_state":{"a":1}}', 422, "Failed to deserialize"),
    ],
)
def test_a_bad_mutation_is_refused_as_text(
    path: str, headers: dict[str, str], body: bytes, status: int, start: str
) -> None:
    async def test(on: Served) -> None:
        response = await on.admin.post(f"/services/{path}/state", content=body, headers=headers)
        found, message = text(response)
        assert found == status
        assert message.startswith(start)
        assert on.runtime.states == {}

    served(test)


def test_state_of_what_has_none_cannot_be_changed() -> None:
    async def test(on: Served) -> None:
        body = {"object_key": "k", "new_state": {"a": [1]}}
        refused = await on.admin.post("/services/Greeter/state", json=body)
        assert error(refused) == (400, "Cannot modify state for service type Service")
        missing = await on.admin.post("/services/X/state", json=body)
        assert error(missing) == (404, "The requested service 'X' does not exist")
        cleared = await on.admin.post("/services/X/state", json=body | {"new_state": {}})
        assert cleared.status_code == 202

    served(test)


def test_an_engine_that_is_down_is_503_with_retry_after() -> None:
    async def test(on: Served) -> None:
        on.runtime.failure = Overloaded("full", 3)
        response = await on.admin.get("/invocations")
        assert error(response) == (503, "full")
        assert response.headers["retry-after"] == "3"

    served(test)


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:9070", "127.0.0.1.evil.example", "", "[bad"]
)
def test_another_host_name_is_refused_everywhere(host: str) -> None:
    async def test(on: Served) -> None:
        for method, path, _ in admin_routes.ROUTES:
            target = path.replace("{id}", ID).replace("{service}", "Counter").replace("{key}", "k")
            raw = (
                f"{method} {target} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n".encode()
            )
            assert (await ask(on.admin_port, raw))[0] == 421
        assert on.runtime.operations == []

    served(test)


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost"])
def test_a_page_of_another_origin_can_write_nothing(origin: str) -> None:
    async def test(on: Served) -> None:
        for method, path, _ in admin_routes.ROUTES:
            if method == "GET":
                continue
            target = path.replace("{id}", ID).replace("{service}", "Counter")
            response = await on.admin.request(method, target, headers={"origin": origin})
            assert response.status_code == 403
            assert not [name for name in response.headers if name.startswith("access-control")]
        assert on.runtime.operations == []

    served(test)


def test_the_own_origin_may_write() -> None:
    async def test(on: Served) -> None:
        on.runtime.operation_results[ID] = OpResult.DONE
        headers = {"origin": f"http://127.0.0.1:{on.admin_port}"}
        response = await on.admin.patch(f"/invocations/{ID}/kill", headers=headers)
        assert response.status_code == 200

    served(test)


def test_large_answers_are_compressed_on_demand() -> None:
    async def test(on: Served) -> None:
        packed = await on.admin.get("/services", headers={"accept-encoding": "gzip"})
        assert packed.headers["content-encoding"] == "gzip"
        plain = await on.admin.get("/services", headers={"accept-encoding": "identity"})
        assert "content-encoding" not in plain.headers
        assert packed.json() == plain.json()

    served(test)
