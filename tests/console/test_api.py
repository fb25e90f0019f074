"""What lies under /ui without a browser: headers, caching, limits, and the read API's refusals."""

import gzip
from collections.abc import Iterator

import httpx
import pytest

from tests.console.conftest import PROGRAM
from tests.crash.server import Server


@pytest.fixture
def admin(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.admin_url, trust_env=False, timeout=30) as client:
        yield client


@pytest.fixture
def ingress(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.ingress_url, trust_env=False, timeout=30) as client:
        yield client


@pytest.mark.parametrize("path", ["/ui/", "/ui/app.js", "/ui/api/overview", "/ui/api/nothing"])
def test_every_answer_carries_the_policy(admin: httpx.Client, path: str) -> None:
    headers = admin.get(path).headers
    policy = headers["content-security-policy"]
    for rule in (
        "default-src 'none'",
        "script-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
    ):
        assert rule in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-frame-options"] == "DENY"


def test_files_are_zipped_and_asked_for_again_by_their_tag(admin: httpx.Client) -> None:
    with admin.stream("GET", "/ui/style.css", headers={"accept-encoding": "gzip"}) as answer:
        assert answer.headers["content-encoding"] == "gzip"
        zipped = b"".join(answer.iter_raw())
    plain = admin.get("/ui/style.css", headers={"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert gzip.decompress(zipped) == plain.content
    again = admin.get("/ui/style.css", headers={"if-none-match": plain.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_the_root_and_unknown_pages_lead_to_the_page(admin: httpx.Client) -> None:
    moved = admin.get("/?a=1")
    assert (moved.status_code, moved.headers["location"]) == (308, "/ui/?a=1")
    assert admin.get("/ui").headers["location"] == "/ui/"
    assert admin.get("/ui/some/page").headers["content-type"] == "text/html; charset=utf-8"
    assert admin.get("/ui/none.js").status_code == 404
    assert admin.get("/ui/../api.py").status_code == 404
    assert admin.post("/ui/").status_code == 405


def test_no_other_site_may_ask(admin: httpx.Client) -> None:
    asked = {"service": "Counter", "handler": "add", "key": "x", "body": "1"}
    there = {"origin": "http://evil.example"}
    assert admin.post("/ui/api/invoke", json=asked, headers=there).status_code == 403
    assert admin.get("/ui/api/overview", headers={"host": "evil.example"}).status_code == 421
    form = {"content-type": "text/plain"}
    assert admin.post("/ui/api/invoke", content="{}", headers=form).status_code == 415


def test_the_console_can_be_switched_off(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("off") / "data"
    flags = ("--set", "admin.console=false")
    with Server(path, f"{PROGRAM}:app", flags=flags) as server:
        for each in ("/", "/ui", "/ui/", "/ui/api/overview"):
            assert httpx.get(server.admin_url + each, trust_env=False).status_code == 404


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({"service": "Nobody", "handler": "x"}, 404),
        ({"service": "Counter", "handler": "nothing", "key": "a"}, 404),
        ({"service": "Counter", "handler": "add", "body": "1"}, 400),  # without a key
        ({"service": "Counter", "handler": "add", "key": "a", "base64": "*"}, 422),
        ({"service": "Counter", "handler": "add", "key": "a", "body": "1", "delay_ms": -1}, 400),
        ({"service": "Counter"}, 422),
        ([], 422),
    ],
)
def test_a_call_that_cannot_be_is_refused(admin: httpx.Client, asked: object, status: int) -> None:
    assert admin.post("/ui/api/invoke", json=asked).status_code == status


def test_bytes_are_sent_and_shown_as_base64(admin: httpx.Client, ingress: httpx.Client) -> None:
    asked = {"service": "Shop", "handler": "refuse", "base64": "Im5vIg=="}
    answer = admin.post("/ui/api/invoke", json=asked).json()
    assert answer["failure"] == {"code": 409, "message": "no"}
    line = admin.get(f"/ui/api/invocations/{answer['id']}/timeline").json()["items"][0]
    assert line["payload"] == {"size": 4, "text": '"no"'}


def test_a_large_payload_is_cut_and_shown_whole_when_asked_for(
    admin: httpx.Client, ingress: httpx.Client
) -> None:
    text = "ä" * 100_000
    id = ingress.post("/Counter/large/note", json=text).headers["x-restate-id"]
    line = admin.get(f"/ui/api/invocations/{id}/timeline").json()["items"][0]
    assert line["payload"]["is_cut"]
    assert len(line["payload"]["text"]) < 5000
    whole = admin.get(f"/ui/api/invocations/{id}/payload/0").json()
    assert text in whole["text"]
    value = admin.get("/ui/api/objects/Counter/large").json()["state"][0]
    assert value["is_cut"]
    assert admin.get(f"/ui/api/invocations/{id}/payload/99").status_code == 404


def test_a_state_change_of_an_old_version_is_a_conflict(
    admin: httpx.Client, ingress: httpx.Client
) -> None:
    ingress.post("/Counter/conflict/add", json=1)
    place = "/ui/api/objects/Counter/conflict"
    version = admin.get(place).json()["version"]
    ingress.post("/Counter/conflict/add", json=1)
    change = {"version": version, "set": {"total": {"text": "9"}}}
    assert admin.put(f"{place}/state", json=change).status_code == 409
    assert ingress.post("/Counter/conflict/get").json() == 2
    now = admin.get(place).json()["version"]
    done = admin.put(f"{place}/state", json=change | {"version": now, "delete": ["none"]})
    assert done.status_code == 202
    assert ingress.post("/Counter/conflict/add", json=1).json() == 10
    assert admin.put("/ui/api/objects/Shop/x/state", json=change).status_code == 400
    assert admin.put("/ui/api/objects/Nobody/x/state", json=change).status_code == 404


def test_bad_places_are_refused(admin: httpx.Client) -> None:
    for path in (
        "invocations?limit=0", "invocations?limit=1000000", "invocations?cursor=zz",
        "invocations?cursor=21", "objects?cursor=00", "timers?cursor=ff", "invocations/inv_1x",
        "invocations/nonsense/timeline", "invocations/inv_1x/payload/0",
    ):  # fmt: skip
        assert admin.get(f"/ui/api/{path}").status_code == 400, path
    for path in ("nothing", "objects/Nobody/x", "invocations/inv_1" + "0" * 33):
        assert admin.get(f"/ui/api/{path}").status_code == 404, path


def test_pages_go_on_where_the_page_before_ended(
    admin: httpx.Client, ingress: httpx.Client
) -> None:
    sent = [
        ingress.post(f"/Counter/page{n}/add/send", json=1).json()["invocationId"] for n in range(25)
    ]
    path = "/ui/api/invocations?service=Counter&handler=add&limit=10"
    page = admin.get(path).json()
    seen = {row["id"] for row in page["rows"]}
    assert len(page["rows"]) == 10
    assert {row["id"] for row in page["rows"]} <= set(sent)  # the newest ones
    while "cursor" in page:
        page = admin.get(f"{path}&cursor={page['cursor']}").json()
        seen |= {row["id"] for row in page["rows"]}
    assert set(sent) <= seen
