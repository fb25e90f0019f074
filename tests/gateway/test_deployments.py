"""Registration, listing, update and removal over HTTP, against real endpoints (admin 4)."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import restate

import perdure
from perdure.actors.remote.asgi import AsgiTransport
from tests.actors.remote.hypercorns import hypercorn
from tests.gateway.remotes import Endpoint, Up, manifest, refused, service, up

UNKNOWN = "dp_11nGQpCRmau6ypL82KH2TnP"


def on(data: Path, test: Callable[[Up], Awaitable[None]], **more: Any) -> None:
    async def run() -> None:
        async with up(data, **more) as server:
            await test(server)

    asyncio.run(run())


def official(version: str = "one") -> Any:
    """An app on the official SDK."""
    greeter = restate.Service("Greeter")

    @greeter.handler()
    async def greet(ctx: restate.Context, name: str) -> str:
        return f"{version}: {name}"

    return restate.app(services=[greeter])


# ---- register ------------------------------------------------------------------------------------


def test_an_app_on_the_official_sdk_is_registered_over_http2(tmp_path: Path) -> None:
    async def test(server: Up) -> None:
        async with hypercorn(official()) as uri:
            response = await server.register(uri, metadata={"team": "a"})
            assert response.status_code == 201
            found = response.json()
            assert list(found) == [
                "id", "services", "min_protocol_version", "max_protocol_version", "sdk_version",
            ]  # fmt: skip
            assert found["id"].startswith("dp_1")
            assert response.headers["location"] == f"deployments/{found['id']}"
            assert found["sdk_version"] == "restate-sdk-python/1.3.0"
            assert [each["name"] for each in found["services"]] == ["Greeter"]
            assert found["services"][0]["deployment_id"] == found["id"]
            listed = (await server.admin.get("/deployments")).json()["deployments"]
            created = listed[0].pop("created_at")
            assert len(created) == len("2026-11-22T08:16:27.689000000Z")
            assert listed == [
                {
                    "id": found["id"],
                    "uri": f"{uri}/",
                    "protocol_type": "BidiStream",
                    "http_version": "HTTP/2.0",
                    "metadata": {"team": "a"},
                    "min_protocol_version": 5,
                    "max_protocol_version": 7,
                    "sdk_version": "restate-sdk-python/1.3.0",
                    "services": [{"name": "Greeter", "revision": 1}],
                    "status": "active",
                }
            ]
            detail = (await server.admin.get(f"/v4/deployments/{found['id']}")).json()
            assert detail["services"] == found["services"]

    on(tmp_path / "data", test)


def test_an_app_on_the_official_sdk_is_registered_over_http1(tmp_path: Path) -> None:
    async def test(server: Up) -> None:
        async with hypercorn(official(), h2_max_concurrent_streams=1) as uri:
            found = (await server.register(uri, use_http_11=True)).json()
            detail = (await server.admin.get(f"/deployments/{found['id']}")).json()
            assert detail["protocol_type"] == "RequestResponse"
            assert detail["http_version"] == "HTTP/1.1"

    on(tmp_path / "data", test)


def test_calls_reach_the_newest_deployment(tmp_path: Path) -> None:
    async def test(server: Up) -> None:
        async with hypercorn(official("one")) as first, hypercorn(official("two")) as second:
            await server.register(first)
            answer = await server.ingress.post("/Greeter/greet", json="Ada")
            assert answer.json() == "one: Ada"
            newer = (await server.register(second, use_http_11=True)).json()
            assert newer["services"][0]["revision"] == 2
            answer = await server.ingress.post("/Greeter/greet", json="Ada")
            assert answer.json() == "two: Ada"
            statuses = [
                each["status"]
                for each in (await server.admin.get("/deployments")).json()["deployments"]
            ]
            assert statuses == ["drained", "active"]
            gone = await server.admin.delete(f"/deployments/{newer['id']}?force=true")
            assert (gone.status_code, gone.content) == (202, b"")
            assert await server.revisions() == {"Greeter": 1}
            answer = await server.ingress.post("/Greeter/greet", json="Ada")
            assert answer.json() == "one: Ada"

    on(tmp_path / "data", test)


def test_the_discovery_request_says_what_the_server_reads_and_who_it_is(tmp_path: Path) -> None:
    async def test(server: Up) -> None:
        endpoint = Endpoint(manifest(service("S")))
        async with endpoint.serve() as uri:
            headers = {"X-Token": "secret", "authorization": "Bearer a"}
            response = await server.register(f"{uri}/base/?a=b", additional_headers=headers)
            assert response.status_code == 201
            (request,) = endpoint.requests
            assert request["method"] == "GET"
            assert request["path"] == "/base/discover?a=b"
            assert request["http"] == "2"
            sent = request["headers"]
            assert sent["accept"] == ", ".join(
                f"application/vnd.restate.endpointmanifest.v{n}+json" for n in range(1, 6)
            )
            assert sent["x-restate-cluster-name"] == "here"
            assert sent["x-token"] == "secret"
            assert "user-agent" not in sent
            assert "x-restate-signature-scheme" not in sent
            detail = (await server.admin.get(f"/deployments/{response.json()['id']}")).json()
            assert detail["uri"] == f"{uri}/base/?a=b"
            assert detail["additional_headers"] == {
                "x-token": "secret",
                "authorization": "Bearer a",
            }

    on(tmp_path / "data", test, cluster_name="here")


def test_a_known_address_changes_nothing_without_force(tmp_path: Path) -> None:
    async def test(server: Up) -> None:
        endpoint = Endpoint(manifest(service("S")))
        async with endpoint.serve() as uri:
            first = await server.register(uri)
            again = await server.register(uri + "/", metadata={"new": "1"})
            assert (again.status_code, again.json()) == (200, first.json())
            assert len(endpoint.requests) == 1
            unchanged = await server.admin.post(
                "/v2/deployments", json={"uri": uri, "force": False}
            )
            assert refused(unchanged)[:2] == (409, "META0004")

    on(tmp_path / "data", test)


def test_force_discovers_again_in_place_with_new_revisions(tmp_path: Path) -> None:
    async def test(server: Up) -> None:
        endpoint = Endpoint(manifest(service("S"), service("Gone")))
        async with endpoint.serve() as uri:
            first = await server.register(uri, metadata={"a": "1"}, additional_headers={"x": "1"})
            endpoint.reply = Endpoint(
                manifest(service("S", "VIRTUAL_OBJECT"), service("New"))
            ).reply
            second = await server.register(uri, force=True)
            assert second.status_code == 200
            assert second.json()["id"] == first.json()["id"]
            assert await server.revisions() == {"S": 2, "New": 1}
            detail = (await server.admin.get(f"/deployments/{first.json()['id']}")).json()
            assert "metadata" not in detail
            assert "additional_headers" not in detail
            third = await server.admin.post("/v2/deployments", json={"uri": uri})
            assert third.status_code == 201
            assert await server.revisions() == {"S": 3, "New": 2}

    on(tmp_path / "data", test)


def test_a_dry_run_answers_as_the_real_one_would_and_changes_nothing(tmp_path: Path) -> None:
    async def test(server: Up) -> None:
        endpoint = Endpoint(manifest(service("S")))
        async with endpoint.serve() as uri, Endpoint(manifest(service("S"))).serve() as other:
            await server.register(uri)
            dry = await server.register(other, dry_run=True)
            assert dry.status_code == 201
            assert dry.json()["services"][0]["revision"] == 2
            missing = await server.admin.get(f"/deployments/{dry.json()['id']}")
            assert refused(missing) == (
                404, None, f"The requested deployment '{dry.json()['id']}' does not exist",
            )  # fmt: skip
            forced = await server.register(uri, dry_run=True, force=True)
            assert (forced.status_code, forced.json()["services"][0]["revision"]) == (200, 2)
            assert await server.revisions() == {"S": 1}

    on(tmp_path / "data", test)


def test_a_service_changes_its_type_only_if_that_is_said(tmp_path: Path) -> None:
    async def test(server: Up) -> None:
        changed = Endpoint(manifest(service("S", "WORKFLOW")))
        async with Endpoint(manifest(service("S"))).serve() as uri, changed.serve() as other:
            await server.register(uri)
            status, code, message = refused(await server.register(other))
            assert (status, code) == (409, "META0006")
            assert message.startswith(
                "[META0006] service 'S' is a Service in revision 1, and a Workflow"
            )
            assert (await server.register(other, breaking=True)).status_code == 201

    on(tmp_path / "data", test)


def test_concurrent_registrations_of_one_address_make_one_deployment(tmp_path: Path) -> None:
    async def test(server: Up) -> None:
        endpoint = Endpoint(manifest(service("S")))
        async with endpoint.serve() as uri:
            answers = await asyncio.gather(*(server.register(uri) for _ in range(8)))
            assert sorted(each.status_code for each in answers) == [200] * 7 + [201]
            assert len({each.json()["id"] for each in answers}) == 1
            assert await server.revisions() == {"S": 1}

    on(tmp_path / "data", test)


def test_a_request_response_endpoint_says_that_it_ignores_an_inactivity_timeout(
    tmp_path: Path,
) -> None:
    async def test(server: Up) -> None:
        handlers = [{"name": "own", "inactivityTimeout": 4000}, {"name": "h"}]
        services = [
            service("S", inactivityTimeout=5000),
            {"name": "Own", "ty": "SERVICE", "handlers": handlers},
        ]
        body = manifest(*services, protocolMode="REQUEST_RESPONSE")
        async with Endpoint(body).serve() as uri:
            whole, by_handler = (await server.register(uri)).json()["services"]
            assert whole["inactivity_timeout"] == by_handler["inactivity_timeout"] == "0s"
            assert [each["code"] for each in whole["info"]] == ["RT0021"]
            assert "info" not in by_handler
            own, plain = by_handler["handlers"]
            assert "inactivity timeout of 4s is ignored" in own["info"][0]["message"]
            assert "inactivity_timeout" not in own
            assert "info" not in plain
            for each in (whole, by_handler):
                path = f"/services/{each['name']}"
                assert (await server.admin.get(path)).json() == each
                listed = (await server.admin.get(f"{path}/handlers")).json()
                assert listed == {"handlers": each["handlers"]}
            assert (await server.admin.get("/services/Own/handlers/own")).json() == own

    on(tmp_path / "data", test)


# ---- bodies and ids ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 422),
        ({"uri": "not a uri"}, 422),
        ({"uri": "http://"}, 422),
        ({"uri": "http://a:99999"}, 422),
        ({"uri": "http://ä.example"}, 422),
        ({"uri": 1}, 422),
        ({"uri": "http://a", "force": "yes"}, 422),
        ({"uri": "127.0.0.1:19081"}, 400),
        ({"uri": "ftp://a/"}, 400),
        ({"uri": "file:///etc/passwd"}, 400),
        ({"uri": "gopher://a/"}, 400),
        ({"uri": "http://user:password@a/"}, 400),
        ({"uri": "http://user@a/"}, 400),
        ({"uri": "http://a", "additional_headers": {"host": "b"}}, 400),
        ({"uri": "http://a", "additional_headers": {"a b": "c"}}, 400),
        ({"uri": "http://a", "additional_headers": {"a": "b\r\nc: d"}}, 400),
        ({"arn": "arn:aws:lambda:eu-central-1:1:function:f:1"}, 400),
        ({"uri": "https://a", "auth": {"GoogleIdToken": {}}}, 400),
    ],
)
def test_a_bad_registration_is_refused_before_anybody_is_asked(
    tmp_path: Path, body: dict[str, Any], status: int
) -> None:
    async def test(server: Up) -> None:
        response = await server.admin.post("/deployments", json=body)
        assert response.status_code == status
        if status == 422:
            assert response.text.startswith(
                "Failed to deserialize the JSON body into the target type: "
            )
        else:
            refused(response)

    on(tmp_path / "data", test)


def test_texts_of_refusals(tmp_path: Path) -> None:
    async def test(server: Up) -> None:
        admin = server.admin
        relative = await server.register("127.0.0.1:19081")
        assert refused(relative)[2] == (
            "The request field 'uri' is invalid. Reason: The provided uri 127.0.0.1:19081 is not "
            "absolute, only absolute URIs can be used."
        )
        untyped = await admin.post("/deployments", content=b"{}")
        assert (untyped.status_code, untyped.text) == (
            415, "Expected request with `Content-Type: application/json`",
        )  # fmt: skip
        bad = await admin.get("/deployments/dp_bad")
        assert bad.status_code == 400
        assert bad.text.startswith("Invalid URL: Cannot parse")
        assert bad.text.endswith("unrecognized codec version")
        assert refused(await admin.get(f"/deployments/{UNKNOWN}")) == (
            404, None, f"The requested deployment '{UNKNOWN}' does not exist",
        )  # fmt: skip
        assert refused(await admin.delete(f"/deployments/{UNKNOWN}?force=true")) == (
            404, None, f"not found in the schema registry: deployment with id '{UNKNOWN}'",
        )  # fmt: skip
        unforced = await admin.delete(f"/deployments/{UNKNOWN}")
        assert (unforced.status_code, unforced.content) == (501, b"")
        put = await admin.put(f"/deployments/{UNKNOWN}", json={})
        assert refused(put) == (405, None, "PUT deployment is deprecated, use PATCH instead")
        assert (await admin.get("/deployments/")).status_code == 404
        wrong = await admin.put("/deployments")
        assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST,GET,HEAD")

    on(tmp_path / "data", test)


# ---- update --------------------------------------------------------------------------------------


def test_an_update_moves_a_deployment_and_keeps_its_services(tmp_path: Path) -> None:
    async def test(server: Up) -> None:
        moved = Endpoint(manifest(service("S"), service("New")), x_restate_server="sdk/2")
        async with Endpoint(manifest(service("S"))).serve() as uri, moved.serve() as other:
            before = (await server.register(uri, additional_headers={"a": "1"})).json()
            path = f"/deployments/{before['id']}"
            nothing = await server.admin.patch(path, json={})
            assert nothing.status_code == 200
            assert nothing.json() == (await server.admin.get(path)).json()
            dry = await server.admin.patch(path, json={"uri": other, "dry_run": True})
            assert dry.json()["uri"] == f"{other}/"
            assert (await server.admin.get(path)).json()["uri"] == f"{uri}/"
            after = (await server.admin.patch(path, json={"uri": other})).json()
            assert after["uri"] == f"{other}/"
            assert after["sdk_version"] == "sdk/2"
            assert after["additional_headers"] == {"a": "1"}
            assert await server.revisions() == {"S": 1}
            over = {"overwrite": True, "additional_headers": {"b": "2"}}
            assert (await server.admin.patch(path, json=over)).status_code == 200
            assert await server.revisions() == {"S": 1, "New": 1}
            assert moved.requests[-1]["headers"]["b"] == "2"
            assert (await server.admin.put("/v2" + path, json={})).status_code == 200

    on(tmp_path / "data", test)


def test_an_update_does_not_undo_another_one_that_came_meanwhile(tmp_path: Path) -> None:
    class Slow(Endpoint):
        async def __call__(self, *asgi: Any) -> None:
            if self.requests:
                asked.set()
                await release.wait()
            await super().__call__(*asgi)

    asked, release = asyncio.Event(), asyncio.Event()

    async def test(server: Up) -> None:
        async with Slow(manifest(service("S"))).serve() as uri:
            added = {"additional_headers": {"authorization": "old"}}
            found = (await server.register(uri, **added)).json()
            path = f"/deployments/{found['id']}"
            slow = asyncio.create_task(server.admin.patch(path, json={"overwrite": True}))
            await asked.wait()
            new = {"additional_headers": {"authorization": "new"}}
            assert (await server.admin.patch(path, json=new)).status_code == 200
            release.set()
            late = await slow
            assert late.status_code == 409
            assert "was changed while its endpoint was asked" in late.json()["message"]
            after = (await server.admin.get(path)).json()
            assert after["additional_headers"] == {"authorization": "new"}

    on(tmp_path / "data", test)


def test_an_update_may_not_change_the_range_of_versions(tmp_path: Path) -> None:
    async def test(server: Up) -> None:
        endpoint = Endpoint(manifest(service("S")))
        async with endpoint.serve() as uri:
            before = (await server.register(uri)).json()
            endpoint.reply = Endpoint(manifest(service("S"), maxProtocolVersion=6)).reply
            path = f"/deployments/{before['id']}"
            response = await server.admin.patch(path, json={"overwrite": True})
            assert refused(response)[:2] == (400, "META0016")
        response = await server.admin.patch(path, json={"use_http_11": True})
        assert refused(response)[:2] == (500, "META0003")

    on(tmp_path / "data", test, discovery_timeout_ms=2000)


# ---- services ------------------------------------------------------------------------------------


def test_a_patch_holds_at_once_and_until_the_next_discovery(tmp_path: Path) -> None:
    async def test(server: Up) -> None:
        run = {"name": "run", "ty": "WORKFLOW", "workflowCompletionRetention": 1000}
        flow = {"name": "Flow", "ty": "WORKFLOW", "handlers": [run]}
        async with Endpoint(manifest(service("S"), flow)).serve() as uri:
            await server.register(uri)
            changed = await server.admin.patch(
                "/services/S",
                json={"public": False, "abort_timeout": "1h 30m", "journal_retention": None},
            )
            assert changed.status_code == 200
            assert changed.json()["public"] is False
            assert changed.json()["abort_timeout"] == "1h 30m"
            assert changed.json()["handlers"][0]["public"] is False
            assert (await server.ingress.post("/S/h")).status_code == 400
            handler = server.system.engine.services()["S"].handlers["h"]
            assert handler.abort_timeout_ms == 90 * 60_000
            retention = {"workflow_completion_retention": "2h"}
            patched = (await server.admin.patch("/services/Flow", json=retention)).json()
            assert patched["workflow_completion_retention"] == "2h"
            run_handler = server.system.engine.services()["Flow"].handlers["run"]
            assert run_handler.workflow_retention_ms == 2 * 3_600_000
            assert refused(await server.admin.patch("/services/S", json=retention)) == (
                400, None, "modifying retention time for service type Service is unsupported",
            )  # fmt: skip
            await server.admin.patch("/services/S", json={"inactivity_timeout": "5s"})
            assert (await server.admin.get("/services/S")).json()["public"] is False
            await server.register(uri, force=True)
            found = (await server.admin.get("/services/S")).json()
            assert found["public"] is True
            assert found["abort_timeout"] == "10m"

    on(tmp_path / "data", test)


def test_bad_patches_are_refused(tmp_path: Path) -> None:
    async def test(server: Up) -> None:
        unknown = await server.admin.patch("/services/Nope", json={"public": True})
        assert refused(unknown) == (
            404, None, "not found in the schema registry: service with name 'Nope'",
        )  # fmt: skip
        for bad in ({"abort_timeout": 5}, {"abort_timeout": "soon"}, {"public": "yes"}):
            assert (await server.admin.patch("/services/Nope", json=bad)).status_code == 422

    on(tmp_path / "data", test)


# ---- this process --------------------------------------------------------------------------------


def own_service() -> perdure.Service:
    greeter = perdure.Service("Greeter")

    @greeter.handler()
    async def greet(ctx: perdure.Context, name: str) -> str:
        return f"own: {name}"

    return greeter


def test_services_of_this_process_are_a_deployment_with_a_lasting_id(tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []

    async def look(server: Up) -> None:
        (found,) = (await server.admin.get("/deployments")).json()["deployments"]
        seen.append(found)
        assert (found["uri"], found["status"]) == ("inprocess:", "active")
        assert found["services"] == [{"name": "Greeter", "revision": 1}]
        listed = (await server.admin.get("/services/Greeter")).json()
        assert listed["deployment_id"] == found["id"]
        detail = (await server.admin.get(f"/deployments/{found['id']}")).json()
        assert detail["services"] == [listed]
        assert (await server.ingress.post("/Greeter/greet", json="Ada")).json() == "own: Ada"
        gone = await server.admin.delete(f"/deployments/{found['id']}?force=true")
        assert refused(gone)[0] == 400
        await server.admin.patch("/services/Greeter", json={"abort_timeout": "7s"})

    data = tmp_path / "data"
    on(data, look, services=[own_service()])
    on(data, look, services=[own_service()])
    assert seen[0] == seen[1]

    async def patched(server: Up) -> None:
        assert (await server.admin.get("/services/Greeter")).json()["abort_timeout"] == "7s"
        assert server.system.engine.services()["Greeter"].handlers["greet"].abort_timeout_ms == 7000

    on(data, patched, services=[own_service()])

    async def gone(server: Up) -> None:
        assert (await server.admin.get("/deployments")).json() == {"deployments": []}
        assert (await server.admin.get(f"/deployments/{seen[0]['id']}")).status_code == 404

    on(data, gone)
    on(data, look, services=[own_service()])
    assert seen[2]["id"] == seen[0]["id"]


def test_a_later_registration_of_a_service_of_this_process_is_newer(tmp_path: Path) -> None:
    data = tmp_path / "data"

    async def scenario() -> None:
        async with hypercorn(official("remote")) as uri:
            async with up(data, [own_service()]) as server:
                await server.register(uri)
            async with up(data, [own_service()]) as server:
                assert await server.revisions() == {"Greeter": 2}
                answer = await server.ingress.post("/Greeter/greet", json="Ada")
                assert answer.json() == "remote: Ada"

    asyncio.run(scenario())


def test_an_app_of_this_process_keeps_its_id_and_its_revisions(tmp_path: Path) -> None:
    data = tmp_path / "data"
    ids = []

    async def look(server: Up) -> None:
        (found,) = (await server.admin.get("/deployments")).json()["deployments"]
        ids.append(found["id"])
        assert (found["uri"], found["protocol_type"]) == ("asgi://inprocess/shop", "BidiStream")
        assert found["services"] == [{"name": "Greeter", "revision": 1}]
        assert (await server.ingress.post("/Greeter/greet", json="Ada")).json() == "one: Ada"

    for _ in range(2):
        on(data, look, hosted={"shop": lambda: AsgiTransport(official())})
    assert ids[0] == ids[1]

    async def absent(server: Up) -> None:
        assert (await server.admin.get("/services")).json() == {"services": []}
        (found,) = (await server.admin.get("/deployments")).json()["deployments"]
        assert found["status"] == "drained"
        assert (await server.admin.delete(f"/deployments/{ids[0]}?force=true")).status_code == 202

    on(data, absent)


# ---- restart -------------------------------------------------------------------------------------


def test_a_restart_keeps_everything(tmp_path: Path) -> None:
    data = tmp_path / "data"
    before: list[Any] = []

    async def everything(server: Up) -> list[Any]:
        listed = (await server.admin.get("/deployments")).json()["deployments"]
        details = [(await server.admin.get(f"/deployments/{each['id']}")).json() for each in listed]
        services = (await server.admin.get("/services")).json()["services"]
        return [listed, details, sorted(services, key=lambda each: str(each["name"]))]

    async def scenario() -> None:
        one = Endpoint(manifest(service("A"), service("B", "VIRTUAL_OBJECT", "x", "y")))
        two = Endpoint(manifest(service("A", documentation="new"), maxProtocolVersion=6))
        async with one.serve() as first, two.serve() as second:
            async with up(data) as server:
                await server.register(first, metadata={"a": "1"}, additional_headers={"X-A": "b"})
                await server.register(second)
                await server.admin.patch("/services/B", json={"public": False})
                before.extend(await everything(server))
            async with up(data) as server:
                assert await everything(server) == before
                assert len(before[0]) == 2
                assert server.registrar.records()[0].headers == (("x-a", "b"),)
        assert len(one.requests) + len(two.requests) == 2  # a restart asks nobody
        assert json.dumps(before)

    asyncio.run(scenario())
