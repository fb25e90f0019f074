"""The OpenAPI documents: of the admin API, made of its routes and types, and of services (admin 5.4, 10)."""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import perdure
from perdure.gateway import admin_shapes as shapes
from perdure.gateway.admin_routes import ROUTES
from perdure.gateway.openapi_admin import admin_openapi
from perdure.gateway.openapi_operations import OPERATIONS
from perdure.gateway.openapi_services import service_openapi
from perdure.journal.schema import (
    Handler,
    HandlerType,
    InputRule,
    OutputRule,
    Service,
    ServiceType,
)
from tests.gateway.remotes import up
from tests.gateway.runtime import example_services
from tests.gateway.serving import Served, served

INGRESS = "http://127.0.0.1:8080/"


def nodes(value: Any) -> Iterator[Any]:
    yield value
    children = value.values() if isinstance(value, dict) else value
    if isinstance(value, dict | list):
        for each in children:
            yield from nodes(each)


def references(document: Any) -> list[str]:
    return [each["$ref"] for each in nodes(document) if isinstance(each, dict) and "$ref" in each]


def resolve(document: Any, reference: str) -> Any:
    assert reference.startswith("#/"), reference
    for part in reference[2:].split("/"):
        document = document[part.replace("~1", "/").replace("~0", "~")]
    return document


# ---- the admin API -------------------------------------------------------------------------------


def test_a_query_is_described_with_both_forms_of_its_answer() -> None:
    document = admin_openapi(ROUTES, "1")
    query = document["paths"]["/query"]["post"]
    content = query["requestBody"]["content"]["application/json"]
    body = resolve(document, content["schema"]["$ref"])
    assert (body["required"], body["properties"]) == (["query"], {"query": {"type": "string"}})
    answers = query["responses"]["200"]["content"]
    assert set(answers) == {"application/json", "application/vnd.apache.arrow.stream"}
    rows = resolve(document, answers["application/json"]["schema"]["$ref"])
    assert rows["properties"]["rows"]["items"]["type"] == "object"
    arrow = answers["application/vnd.apache.arrow.stream"]["schema"]
    assert (arrow["type"], arrow["format"]) == ("string", "binary")


def test_every_route_is_in_the_document_and_nothing_else() -> None:
    document = admin_openapi(ROUTES, "1")
    found = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
    assert found == {(method, path) for method, path, _ in ROUTES}
    names = [op["operationId"] for item in document["paths"].values() for op in item.values()]
    assert len(set(names)) == len(names)
    assert set(OPERATIONS) <= {name for _, _, name in ROUTES}


def test_every_reference_and_every_argument_of_a_path_is_there() -> None:
    document = admin_openapi(ROUTES, "1")
    assert all(resolve(document, each) is not None for each in references(document))
    for path, item in document["paths"].items():
        for operation in item.values():
            given = [each["name"] for each in operation.get("parameters", ())]
            assert set(re.findall(r"\{(\w+)\}", path)) <= set(given)
            assert {"4XX", "5XX"} <= set(operation["responses"])


def test_the_document_is_served_and_says_who_may_ask() -> None:
    async def test(on: Served) -> None:
        document = (await on.admin.get("/v4/openapi")).json()
        assert document["openapi"] == "3.1.0"
        assert "/invocations/{invocation_id}/kill" in document["paths"]
        assert document["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
        head = await on.admin.head("/openapi")
        assert (head.status_code, head.content) == (200, b"")

    served(test)


def test_answers_have_the_shapes_of_the_document(tmp_path: Path) -> None:
    """The types know exactly what is answered: neither more nor less."""
    counter = perdure.VirtualObject("Counter", description="Counts.", metadata={"team": "a"})

    @counter.handler()
    async def add(ctx: perdure.ObjectContext, n: int) -> int:
        ctx.set("n", n)
        return n

    async def test() -> None:
        async with up(tmp_path, [counter]) as server:
            called = await server.ingress.post(
                "/Counter/a/add", json=1, headers={"idempotency-key": "k"}
            )
            id = called.headers["x-restate-id"]
            new = await server.admin.patch(f"/invocations/{id}/restart-as-new")
            again = new.json()["new_invocation_id"]
            await server.ingress.get(f"/restate/invocation/{again}/attach")
            failed = await server.ingress.post("/Counter/b/add/send", json="no number")
            deployments = (await server.admin.get("/deployments")).json()["deployments"]
            for path, type_ in (
                ("/version", shapes.Version),
                ("/cluster-health", shapes.ClusterHealth),
                ("/services", shapes.Services),
                ("/services/Counter", shapes.ServiceMetadata),
                ("/services/Counter/handlers", shapes.Handlers),
                ("/services/Counter/handlers/add", shapes.HandlerMetadata),
                ("/services/Counter/state/a", shapes.State),
                ("/deployments", shapes.Deployments),
                (f"/deployments/{deployments[0]['id']}", shapes.DetailedDeployment),
                ("/invocations", shapes.Invocations),
                (f"/invocations/{id}", shapes.Invocation),
                (f"/invocations/{again}", shapes.Invocation),
                (f"/invocations/{failed.json()['invocationId']}", shapes.Invocation),
                (f"/invocations/{id}/journal", shapes.Journal),
            ):
                response = await server.admin.get(path)
                assert response.status_code == 200, path
                msgspec.json.decode(response.content, type=type_)

    asyncio.run(test())


# ---- services ------------------------------------------------------------------------------------


def handler(name: str, input_schema: object = None, **more: Any) -> Handler:
    rules = (InputRule("application/json", body_required=True),)
    return Handler(
        "S",
        name,
        HandlerType.SERVICE,
        ServiceType.SERVICE,
        rules,
        input_schema=input_schema,
        **more,
    )


def document_of(*handlers: Handler, **more: Any) -> dict[str, Any]:
    service = Service("S", ServiceType.SERVICE, {each.name: each for each in handlers}, **more)
    return service_openapi(service, INGRESS)


def test_a_service_tells_its_paths_and_who_it_is() -> None:
    document = document_of(
        handler("greet", documentation="Greets."),
        documentation="About.",
        metadata={"a": "b"},
        revision=3,
    )
    assert document["info"] == {
        "title": "S",
        "version": "3",
        "description": "About.",
        "x-restate-extensions": {"a": "b"},
    }
    assert document["servers"] == [{"url": INGRESS, "description": "Restate Ingress URL"}]
    assert list(document["paths"]) == [
        "/restate/call/S/greet",
        "/restate/send/S/greet",
        "/restate/invocation/S/greet/{idempotencyKey}/attach",
        "/restate/invocation/S/greet/{idempotencyKey}/output",
    ]
    call = document["paths"]["/restate/call/S/greet"]["post"]
    assert (call["operationId"], call["description"]) == ("greet", "Greets.")
    assert call["requestBody"]["required"]


def test_objects_have_keys_and_the_run_of_a_workflow_has_no_idempotency_key() -> None:
    served = example_services()
    document = service_openapi(served["Counter"], INGRESS)
    assert "/restate/call/Counter/{key}/add" in document["paths"]
    document = service_openapi(served["Flow"], INGRESS)
    assert "/restate/workflow/Flow/{key}/attach" in document["paths"]
    assert "/restate/workflow/Flow/{key}/output" in document["paths"]
    assert "/restate/invocation/Flow/{key}/finish/{idempotencyKey}/attach" in document["paths"]
    run = document["paths"]["/restate/call/Flow/{key}/run"]["post"]
    assert run["parameters"] == [{"$ref": "#/components/parameters/key"}]


@pytest.mark.parametrize("name", ["Greeter", "Counter", "Flow"])
def test_documents_are_self_contained_and_names_are_unique(name: str) -> None:
    document = service_openapi(example_services()[name], INGRESS)
    for each in references(document):
        assert resolve(document, each) is not None
    names = [op["operationId"] for item in document["paths"].values() for op in item.values()]
    assert len(set(names)) == len(names)
    for item in document["paths"].values():
        assert all(op["responses"] for op in item.values())


def test_definitions_of_a_schema_become_components() -> None:
    schema = {
        "$id": "urn:x",
        "$ref": "#/$defs/Node",
        "$defs": {
            "Node": {
                "properties": {
                    "next": {"$ref": "#/$defs/Node"},
                    "root": {"$ref": "#"},
                    "deep": {"$ref": "#/$defs/List[int]/items"},
                    "far": {"$ref": "https://example.com/schema"},
                    "lost": {"$ref": "#/$defs/Nobody"},
                    "$ref": {"type": "string"},
                    "fixed": {"const": {"$ref": "#/$defs/Node"}},
                }
            },
            "List[int]": {"items": {"type": "integer"}},
        },
    }
    document = document_of(handler("f", schema))
    schemas = document["components"]["schemas"]
    assert schemas["fRequest"] == {"$ref": "#/components/schemas/fRequest.Node"}
    assert schemas["fRequest.Node"]["properties"] == {
        "next": {"$ref": "#/components/schemas/fRequest.Node"},
        "root": {"$ref": "#/components/schemas/fRequest"},
        "deep": {"$ref": "#/components/schemas/fRequest.List_int_/items"},
        "far": {},
        "lost": {},
        "$ref": {"type": "string"},
        "fixed": {"const": {"$ref": "#/$defs/Node"}},
    }
    assert schemas["fRequest.List_int_"] == {"items": {"type": "integer"}}


def test_handlers_that_are_called_alike_get_names_of_their_own() -> None:
    document = document_of(handler("a", True), handler("aSend", {}), handler("aRequest", {}))
    names = [op["operationId"] for item in document["paths"].values() for op in item.values()]
    assert len(set(names)) == len(names) == 12


def test_what_has_no_body_has_no_request_body() -> None:
    document = service_openapi(example_services()["Greeter"], INGRESS)
    paths = document["paths"]
    assert "requestBody" not in paths["/restate/call/Greeter/noInput"]["post"]
    any_body = paths["/restate/call/Greeter/headers"]["post"]["requestBody"]
    assert any_body == {"required": False, "content": {"*/*": {}}}
    text = paths["/restate/call/Greeter/text"]["post"]["responses"]["200"]
    assert list(text["content"]) == ["text/plain"]
    nothing = document_of(handler("f", output_rule=OutputRule(None)))
    answer = nothing["paths"]["/restate/call/S/f"]["post"]["responses"]["200"]
    assert answer == {"description": "The result."}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda each: (
        st.lists(each, max_size=3)
        | st.dictionaries(
            st.sampled_from(["$ref", "$defs", "properties", "a", "#"]), each, max_size=3
        )
    ),
    max_leaves=10,
)


@given(JSON)
def test_no_schema_breaks_a_document(schema: object) -> None:
    document = document_of(handler("f", schema))
    msgspec.json.encode(document)
    for each in document["components"]["schemas"].values():
        for reference in references({} if each is None else each):
            if isinstance(reference, str):
                resolve(document, reference)
    assert "fRequest" in document["components"]["schemas"] or schema is None
