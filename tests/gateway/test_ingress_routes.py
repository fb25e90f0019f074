"""Raw targets to routes: the table of ingress 2.1, its wrong shapes, and keys of any text."""

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.gateway.ingress_routes import (
    Awakeable,
    ById,
    ByIdempotencyKey,
    ByWorkflow,
    Health,
    Invocation,
    Route,
    parse,
    query_value,
)
from perdure.gateway.ingress_routes import ByBody as Body
from perdure.gateway.responses import Refusal
from tests.gateway.runtime import example_services

SERVICES = example_services()
GREETER, COUNTER, FLOW = (SERVICES[name] for name in ("Greeter", "Counter", "Flow"))
NO_SERVICE = "service '{}' not found, make sure to register the service before calling it."
ID = "inv_12kpUQONmeFb40HPiUbKSfrH18FxSmvYzH"


@pytest.mark.parametrize(
    ("target", "route"),
    [
        ("/Greeter/greet", Invocation(GREETER, "greet", None, False, "")),
        ("//Greeter/greet//", Invocation(GREETER, "greet", None, False, "")),
        ("/Greeter/greet?x=1", Invocation(GREETER, "greet", None, False, "x=1")),
        ("http://host:1/Greeter/greet?x=1", Invocation(GREETER, "greet", None, False, "x=1")),
        ("/Greeter/greet/send", Invocation(GREETER, "greet", None, True, "")),
        ("/Counter/k/add", Invocation(COUNTER, "add", "k", False, "")),
        ("/Counter//add", Invocation(COUNTER, "add", "", False, "")),
        ("/Counter/a%2Fb/add/send", Invocation(COUNTER, "add", "a/b", True, "")),
        ("/Counter/a+b/add", Invocation(COUNTER, "add", "a+b", False, "")),
        ("/Counter/send/add", Invocation(COUNTER, "add", "send", False, "")),
        ("/Flow/w1/run", Invocation(FLOW, "run", "w1", False, "")),
        ("/restate/call/Greeter/greet", Invocation(GREETER, "greet", None, False, "")),
        ("/restate/send/Greeter/greet", Invocation(GREETER, "greet", None, True, "")),
        ("/restate/call/Counter/%2e%2e/add", Invocation(COUNTER, "add", "..", False, "")),
        ("/restate/send/Flow/w/run?delay=1s", Invocation(FLOW, "run", "w", True, "delay=1s")),
        ("/restate/scope/s%20/call/Greeter/greet", Invocation(GREETER, "greet", None, False, "", "s ")),
        ("/restate/scope/s/send/Counter/k/add", Invocation(COUNTER, "add", "k", True, "", "s")),
        (f"/restate/invocation/{ID}/attach", ById(ID, True)),
        (f"/restate/invocation/{ID}/output", ById(ID, False)),
        (f"/restate/attach/{ID}", ById(ID, True)),
        (f"/restate/output/{ID}", ById(ID, False)),
        ("/restate/invocation/Greeter/greet/a%20b/attach",
         ByIdempotencyKey("Greeter", None, "greet", "a%20b", True)),
        ("/restate/invocation/Counter/k%2F/add/i/output",
         ByIdempotencyKey("Counter", "k/", "add", "i", False)),
        ("/restate/attach", Body("attach")),
        ("/restate/output", Body("output")),
        ("/restate/lookup", Body("lookup")),
        ("/restate/workflow/Flow/w%201/attach", ByWorkflow("Flow", "w 1", True)),
        ("/restate/workflow/Flow/w1/output", ByWorkflow("Flow", "w1", False)),
        ("/restate/awakeables/sign_1x/resolve", Awakeable("sign_1x", True)),
        ("/restate/a/sign_1x/reject", Awakeable("sign_1x", False)),
        ("/restate/health", Health()),
        ("/restate/health/anything", Health()),
    ],
)  # fmt: skip
def test_each_shape_has_its_route(target: str, route: Route) -> None:
    assert parse(target, SERVICES) == route


@pytest.mark.parametrize(
    ("target", "status", "message"),
    [
        ("/", 400, "bad path: /"),
        ("/Greeter", 400, "bad path: /Greeter"),
        ("/restate", 400, "bad path: /restate"),
        ("/a/b/c/d/e/f/g/h", 400, "bad path: /a/b/c/d/e/f/g/h"),
        ("/openapi/x", 404, "not found"),
        ("/Nope/greet", 404, NO_SERVICE.format("Nope")),
        ("/greeter/greet", 404, NO_SERVICE.format("greeter")),
        ("/Gr%65eter/greet", 404, NO_SERVICE.format("Gr%65eter")),
        ("/Restate/health", 404, NO_SERVICE.format("Restate")),
        ("/restate/foo/bar", 404, "not found"),
        ("/restate/healthz", 404, "not found"),
        (f"/restate/signals/{ID}/n/resolve", 404, "not found"),
        (f"/restate/invocation/{ID}/cancel", 404, "not found"),
        ("/restate/workflow/Flow/w/cancel", 404, "not found"),
        ("/restate/awakeables/x/cancel", 404, "not found"),
    ],
)  # fmt: skip
def test_other_targets_are_refused(target: str, status: int, message: str) -> None:
    assert parse(target, SERVICES) == Refusal(status, message)


@pytest.mark.parametrize(
    ("target", "start"),
    [
        ("/Greeter/greet/x", "bad path, expected either /:service-name/:handler or"),
        ("/Greeter/greet/send/x", "bad path, expected either /:service-name"),
        ("/Counter/add", "bad path, expected either /:service-name"),
        ("/Counter/k/add/x", "bad path, expected either /:service-name"),
        ("/restate/call/Greeter", "bad path, expected /restate/call/:service/:handler,"),
        ("/restate/call/Greeter/greet/send", "bad path, expected /restate/call/"),
        ("/restate/call/Counter/add", "bad path, expected /restate/call/"),
        ("/restate/scope/s", "bad path, expected /restate/call/"),
        ("/restate/scope/s/attach/x", "bad path, expected /restate/call/"),
        (f"/restate/attach/{ID}/x", "bad path, expected /restate/call/"),
        ("/restate/lookup/x", "bad path, expected /restate/call/"),
        (f"/restate/invocation/{ID}", "bad path, expected either /restate/invocation/"),
        (
            "/restate/invocation/Counter/add/i/attach",
            "bad path, expected either /restate/invocation/",
        ),
        ("/restate/workflow/Flow/w", "bad path, expected either /restate/workflow/"),
        ("/restate/awakeables/x", "bad path, expected either /restate/awakeables/:id/resolve"),
        ("/Counter/%FF/add", "bad key '%FF'"),
        ("/Counter/%ED%A0%80/add", "bad key"),
        ("/restate/call/Counter/%FF/add", "bad key"),
        ("/restate/workflow/Flow/%FF/attach", "bad key"),
    ],
)
def test_a_wrong_shape_is_told_the_right_one(target: str, start: str) -> None:
    route = parse(target, SERVICES)
    assert isinstance(route, Refusal)
    assert route.status == 400
    assert route.message.startswith(start)


@pytest.mark.parametrize(
    ("target", "end"),
    [
        ("/Greeter/greet/x", "; Greeter is a service, without keys: /Greeter/:handler,"),
        ("/Counter/add", "; Counter is a virtual object: /Counter/:object-key/:handler,"),
        ("/Flow/run", "; Flow is a workflow: /Flow/:workflow-key/:handler,"),
        (
            "/restate/call/Counter/add",
            "; Counter is a virtual object: /restate/call/Counter/:object-key/:handler",
        ),
    ],
)
def test_a_call_of_the_wrong_shape_is_told_the_shape_of_that_service(target: str, end: str) -> None:
    route = parse(target, SERVICES)
    assert isinstance(route, Refusal)
    suffix = " or that with /send behind it" if end.endswith(",") else ""
    assert route.message.endswith(end + suffix)


def test_an_unknown_service_comes_before_a_wrong_shape() -> None:
    for target in ("/Nope/a/b/c", "/restate/call/Nope", "/restate/invocation/Nope/a/b/attach"):
        route = parse(target, SERVICES)
        assert isinstance(route, Refusal)
        assert (route.status, route.message[:14]) == (404, "service 'Nope'")


@given(st.text(min_size=1))
def test_any_text_is_a_key_and_comes_out_as_it_went_in(key: str) -> None:
    quoted = quote(key, safe="")
    assert parse(f"/Counter/{quoted}/add", SERVICES) == Invocation(COUNTER, "add", key, False, "")
    assert parse(f"/restate/workflow/Flow/{quoted}/attach", SERVICES) == ByWorkflow(
        "Flow", key, True
    )


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=40))
def test_no_target_breaks_the_parser(text: str) -> None:
    parse("/" + text, SERVICES)
    parse(text, SERVICES)


def test_bytes_that_are_not_utf8_are_named_in_a_way_that_json_can_hold() -> None:
    route = parse("/Gr\udcff/greet", SERVICES)
    assert isinstance(route, Refusal)
    assert "\\udcff" in route.message


def test_query_names_compare_without_case_and_the_first_one_counts() -> None:
    assert query_value("DELAY=5s&delay=6s", "delay") == "5s"
    assert query_value("delay=60+sec", "delay") == "60 sec"
    assert query_value("delaySec=5", "delay") is None
    assert query_value("delay", "delay") == ""
