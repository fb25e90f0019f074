"""What people do in the console: invoke, operate, edit state, and all of it by keyboard."""

from pathlib import Path

import httpx
from playwright.sync_api import Browser, Page, expect

from tests.console.browsers import Console
from tests.console.conftest import PROGRAM
from tests.crash.server import Server

TOKEN = "a-token-of-some-length"


def test_a_handler_is_invoked_from_a_form_made_of_its_schema(console: Console) -> None:
    page = console.open("/ui/services/Shop/order", "Shop/order")
    page.get_by_label("item").fill("cake")
    page.get_by_label("amount").fill("many")
    page.get_by_role("button", name="Call").click()
    expect(page.get_by_role("alert").filter(has_text="number")).to_be_visible()
    page.get_by_label("amount").fill("3")
    page.get_by_role("button", name="Call").click()
    expect(page.locator(".invoke pre")).to_contain_text("3 of cake")
    page.locator(".invoke a").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Shop/order")


def test_an_object_is_invoked_by_key_and_as_json(console: Console) -> None:
    page = console.open("/ui/services/Counter/add", "Counter/add")
    page.get_by_label("Key", exact=True).fill("by form")
    page.get_by_role("button", name="as JSON").click()
    page.get_by_label("Body, JSON").fill("12")
    page.get_by_role("button", name="Call").click()
    expect(page.locator(".invoke pre")).to_have_text("12")
    assert console.ingress.post("/Counter/by%20form/get").json() == 12


def test_a_call_that_fails_shows_its_failure(console: Console) -> None:
    page = console.open("/ui/services/Shop/refuse", "Shop/refuse")
    page.locator(".invoke input").first.fill("sold out")
    page.get_by_role("button", name="Call").click()
    expect(page.locator(".failure")).to_contain_text("409 sold out")


def test_a_send_with_a_delay_is_scheduled(console: Console) -> None:
    page = console.open("/ui/services/Shop/ship", "Shop/ship")
    page.locator(".invoke input").first.fill("1")
    page.get_by_text("More", exact=True).click()
    page.get_by_label("Delay in seconds").fill("3600")
    page.get_by_role("button", name="Send").click()
    page.locator(".invoke a").click()
    expect(page.locator(".status").first).to_have_text("scheduled")


def test_one_invocation_is_cancelled_and_restarted_as_new(console: Console) -> None:
    id = console.send("Shop/ship", 5)
    page = console.open(f"/ui/invocations/{id}", "Shop/ship")
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    expect(page.locator(".status").first).to_have_text("failed")
    page.get_by_role("button", name="Restart as new").first.click()
    page.get_by_role("dialog").get_by_role("button", name="Restart as new").click()
    expect(page.locator(".status").first).to_have_text("running")
    assert id not in page.url


def test_many_are_selected_and_killed(console: Console) -> None:
    ids = [console.send("Counter/many/hold"), *(console.send("Counter/many/add", 1) for _ in "ab")]
    page = console.open("/ui/invocations?key=many", "Invocations")
    page.get_by_label("Select all that are shown").check()
    page.get_by_role("button", name="Kill").click()
    page.get_by_role("dialog").get_by_role("button", name="Kill").click()
    expect(page.get_by_text("Kill: 3 done")).to_be_visible()
    for id in ids:
        answer = console.admin.get(f"/ui/api/invocations/{id}")
        assert answer.status_code == 404 or answer.json()["status"] == "completed"


def _edit(page: Page, name: str, value: str) -> None:
    page.get_by_role("button", name=f"Edit {name}").click()
    page.get_by_role("dialog").get_by_role("textbox").fill(value)
    page.get_by_role("dialog").get_by_role("button", name="Save").click()


def test_state_is_edited_added_and_deleted(console: Console) -> None:
    console.ingress.post("/Counter/edited/add", json=1)
    page = console.open("/ui/objects/Counter/edited", "Counter/edited")
    _edit(page, "total", "41")
    expect(page.locator(".values pre")).to_have_text("41")
    assert console.ingress.post("/Counter/edited/add", json=1).json() == 42
    page.get_by_role("button", name="Add a key").click()
    page.get_by_label("Name").fill("note")
    page.get_by_label("Value, JSON").fill("not json")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("alert")).to_contain_text("not JSON")
    page.get_by_label("Value, JSON").fill('"hello"')
    page.get_by_role("button", name="Save").click()
    expect(page.locator(".values li")).to_have_count(2)
    page.get_by_role("button", name="Delete note").click()
    page.get_by_role("button", name="Go on").click()
    expect(page.locator(".values li")).to_have_count(1)


def test_an_edit_of_what_changed_meanwhile_is_refused_and_keeps_what_was_typed(
    console: Console,
) -> None:
    console.ingress.post("/Counter/raced/add", json=1)
    page = console.open("/ui/objects/Counter/raced", "Counter/raced")
    page.get_by_role("button", name="Edit total").click()
    box = page.get_by_role("dialog").get_by_role("textbox")
    expect(box).to_have_value("1")
    console.ingress.post("/Counter/raced/add", json=1)  # somebody else is faster
    box.fill("100")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("alert")).to_contain_text("changed meanwhile")
    assert console.ingress.post("/Counter/raced/get").json() == 2
    page.get_by_role("button", name="Take the newest version").click()
    expect(page.get_by_role("alert")).to_contain_text("still here")
    expect(box).to_have_value("100")
    page.get_by_role("button", name="Save").click()
    expect(page.locator(".values pre")).to_have_text("100")


def test_keys_lead_through_the_console(console: Console) -> None:
    first = console.send("Counter/keyboard/add", 1)
    page = console.open("/ui/", "Overview")
    page.keyboard.press("g")
    page.keyboard.press("i")
    expect(page.get_by_role("heading", level=1)).to_have_text("Invocations")
    page.keyboard.press("/")
    expect(page.get_by_label("Key or id")).to_be_focused()
    page.keyboard.type("keyboard")
    page.keyboard.press("Enter")
    expect(page.locator("tbody tr")).to_have_count(1)
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    expect(page.locator("a[data-row]").first).to_be_focused()
    page.keyboard.press("x")
    expect(page.get_by_text("1 selected")).to_be_visible()
    page.locator("a[data-row]").first.focus()
    page.keyboard.press("Enter")
    expect(page.locator(".crumbs")).to_contain_text(first)
    page.keyboard.press("Escape")
    expect(page.get_by_role("heading", level=1)).to_have_text("Invocations")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("previous row")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_a_token_is_asked_for_once_and_kept_for_the_tab(browser: Browser, tmp_path: Path) -> None:
    environ = {"PERDURE_ADMIN__TOKEN": TOKEN}
    with Server(tmp_path / "data", f"{PROGRAM}:app", environ=environ) as server:
        answer = httpx.get(f"{server.admin_url}/ui/api/overview", trust_env=False)
        assert answer.status_code == 401
        console = Console(browser, server.admin_url, server.ingress_url)
        page = console.page
        page.goto(console.url + "/ui/")
        page.get_by_label("Bearer token").fill("wrong")
        page.get_by_role("button", name="Go on").click()
        expect(page.get_by_text("was not accepted")).to_be_visible()
        page.get_by_label("Bearer token").fill(TOKEN)
        page.get_by_role("button", name="Go on").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Overview")
        page.reload()
        expect(page.get_by_role("heading", level=1)).to_have_text("Overview")
        assert page.evaluate("document.cookie + JSON.stringify(localStorage)") == "{}"
        console.close()
        assert console.complaints == []
