"""Every page shows what it is for, and breaks no rule of its policy while it does."""

import re
from pathlib import Path

from playwright.sync_api import Route, expect

from tests.console.browsers import Console
from tests.sdk.endpoint.servers import served

SAMPLES = Path(__file__).parents[2] / "samples"


def test_the_root_leads_to_the_overview(console: Console) -> None:
    console.ingress.post("/Counter/a/add", json=1)
    page = console.open("/", "Overview")
    assert page.url == console.url + "/ui/"
    expect(page.locator(".states")).to_contain_text("completed")
    expect(page.locator(".matrix")).to_contain_text("Counter")
    expect(page.locator(".tree")).to_contain_text("PartitionActor")
    expect(page.locator("#health")).to_have_text("connected")


def test_services_show_their_handlers(console: Console) -> None:
    page = console.open("/ui/services", "Services")
    expect(page.get_by_role("heading", name="Shop")).to_be_visible()
    page.get_by_label("Service or handler").fill("refuse")
    expect(page.get_by_role("heading", name="Counter")).to_have_count(0)
    page.get_by_role("link", name="refuse").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Shop/refuse")


def test_a_list_is_filtered_by_status_service_and_key(console: Console) -> None:
    id = console.send("Counter/filtered/add", 2)
    paused = console.send("Shop/stumble", "oops")
    page = console.open("/ui/invocations", "Invocations")
    expect(page.get_by_text(paused)).to_be_visible()
    page.get_by_label("Status").select_option("paused")
    expect(page.get_by_text(id)).to_have_count(0)
    expect(page.get_by_text(paused)).to_be_visible()
    page.get_by_label("Status").select_option("")
    page.get_by_label("Key or id").fill("filtered")
    page.keyboard.press("Enter")
    expect(page.locator("tbody tr")).to_have_count(1)
    assert "key=filtered" in page.url
    page.get_by_label("Key or id").fill(paused)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Shop/stumble")


def test_a_timeline_shows_calls_runs_waits_and_the_output(console: Console) -> None:
    answer = console.ingress.post("/Shop/order", json={"item": "tea", "amount": 2})
    id = answer.headers["x-restate-id"]
    page = console.open(f"/ui/invocations/{id}", "Shop/order")
    lines = page.locator(".timeline > li")
    for word in ("input", "call", "run", "sleep", "send", "output"):
        expect(lines.filter(has=page.locator(".kind", has_text=word)).first).to_be_visible()
    lines.filter(has_text="pay").locator("summary").click()
    expect(lines.filter(has_text="pay").locator("pre")).to_contain_text("receipt")
    page.locator(".child a").first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Counter/tea/add")


def test_a_timeline_is_laid_out_in_time(console: Console) -> None:
    answer = console.ingress.post("/Shop/order", json={"item": "scone", "amount": 1})
    id = answer.headers["x-restate-id"]
    page = console.open(f"/ui/invocations/{id}", "Shop/order")
    lines = page.locator(".timeline > li")
    expect(lines.locator(".moment time")).to_have_count(lines.count())
    expect(page.locator(".axis .tick-mark").first).to_have_text("0 ms")
    starts = [each["x"] for bar in page.locator(".bar").all() if (each := bar.bounding_box())]
    assert len(starts) == lines.count()
    assert starts == sorted(starts)
    sleep = lines.filter(has=page.locator(".kind", has_text="sleep"))
    expect(sleep.locator(".took")).to_have_text(re.compile(r"^[\d.]+ m?s$"))
    bar, track = (sleep.locator(each).bounding_box() for each in (".bar", ".track"))
    assert bar is not None
    assert track is not None
    assert bar["width"] > 10, "at least 20 ms of what all of it took"
    assert bar["x"] + bar["width"] <= track["x"] + track["width"] + 1
    sleep.locator("summary").focus()
    page.keyboard.press("Enter")
    expect(sleep.locator(".inside")).to_contain_text(
        re.compile(r"Journaled \d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} \+.*Completed", re.DOTALL)
    )


def test_a_wait_grows_while_one_looks_and_keeps_the_focus(console: Console) -> None:
    id = console.send("Shop/ship", 1)
    page = console.open(f"/ui/invocations/{id}", "Shop/ship")
    sleep = page.locator("[data-open]")
    sleep.locator("summary").focus()
    expect(sleep.locator(".took")).to_have_text(re.compile(r"[1-9]\d* s so far"))
    expect(sleep.locator("summary")).to_be_focused()
    assert console.admin.patch(f"/invocations/{id}/cancel").is_success
    expect(page.locator("[data-open]")).to_have_count(0)
    expect(page.locator('[data-index="1"]')).to_contain_text("never answered")
    expect(page.locator('[data-index="1"] summary')).to_be_focused()


def test_a_journal_of_an_older_release_is_in_its_order(console: Console) -> None:
    answer = console.ingress.post("/Shop/order", json={"item": "bun", "amount": 1})
    id = answer.headers["x-restate-id"]

    def before_moments(route: Route) -> None:
        found = route.fetch()
        body = found.json()
        for item in body["items"]:
            item.pop("at", None)
            item.pop("until", None)
        route.fulfill(response=found, json=body)

    console.page.route("**/timeline?*", before_moments)
    page = console.open(f"/ui/invocations/{id}", "Shop/order")
    expect(page.locator("#main")).to_contain_text("without moments")
    expect(page.locator(".axis, .moment")).to_have_count(0)
    starts = [each["x"] for bar in page.locator(".bar").all() if (each := bar.bounding_box())]
    assert starts == sorted(set(starts)), "one after the other"


def test_a_retry_shows_its_failure_with_the_stack_and_the_next_attempt(console: Console) -> None:
    id = console.send("Shop/retry")
    page = console.open(f"/ui/invocations/{id}", "Shop/retry")
    expect(page.locator(".status").first).to_have_text("backing-off")
    expect(page.locator(".failure")).to_contain_text("the warehouse does not answer")
    expect(page.locator(".failure pre")).to_contain_text("program.py")
    expect(page.locator(".facts").first).to_contain_text("Next attempt")


def test_an_open_wait_is_shown_as_open_until_it_ends(console: Console) -> None:
    id = console.send("Approval/one/run", "a title")
    page = console.open(f"/ui/invocations/{id}", "Approval/one/run")
    expect(page.locator("[data-open]")).to_contain_text("decision")
    console.ingress.post("/Approval/one/decide", json="yes")
    expect(page.locator("[data-open]")).to_have_count(0)
    expect(page.locator(".status").first).to_have_text("completed")


def test_an_object_shows_state_mailbox_and_promises(console: Console) -> None:
    console.ingress.post("/Counter/busy/add", json=7)
    console.send("Counter/busy/hold")
    console.send("Counter/busy/add", 1)
    page = console.open("/ui/objects", "Objects")
    page.get_by_role("link", name="busy").click()
    expect(page.locator(".values")).to_contain_text("total")
    expect(page.locator(".rows")).to_contain_text("holds the key")
    expect(page.locator(".rows tbody tr")).to_have_count(2)
    console.send("Approval/two/run", "title")
    page = console.open("/ui/objects/Approval/two", "Approval/two")
    expect(page.get_by_text("Open, awaited by")).to_be_visible()


def test_timers_show_what_is_due(console: Console) -> None:
    console.send("Shop/ship", 3)
    page = console.open("/ui/timers", "Timers")
    expect(page.locator("tbody")).to_contain_text("sleep")
    expect(page.locator("tbody")).to_contain_text("in 2 d 23 h")


def test_deployments_refuse_in_the_servers_words(console: Console) -> None:
    page = console.open("/ui/deployments", "Deployments")
    page.get_by_role("button", name="Register").click()
    page.get_by_label("URL").fill("http://127.0.0.1:1")
    page.get_by_role("button", name="Look").click()
    expect(page.get_by_role("alert")).to_contain_text("META0003")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_a_deployment_is_looked_at_registered_and_removed(console: Console, tmp_path: Path) -> None:
    with served(tmp_path, SAMPLES / "greeter.py") as endpoint:
        page = console.open("/ui/deployments", "Deployments")
        page.get_by_role("button", name="Register").click()
        page.get_by_label("URL").fill(endpoint)
        page.get_by_role("button", name="Look").click()
        dialog = page.get_by_role("dialog")
        expect(dialog.get_by_text("Greeter", exact=True)).to_be_visible()
        dialog.get_by_role("button", name="Register").click()
        card = page.locator(".card").filter(has_text=endpoint)
        expect(card).to_contain_text("Greeter")
        card.get_by_role("button", name="Remove").click()
        page.get_by_role("dialog").get_by_role("button", name="Remove").click()
        expect(card).to_have_count(0)


def test_a_schedule_is_shown_run_now_paused_and_deleted(console: Console) -> None:
    page = console.open("/ui/schedules", "Schedules")
    expect(page.locator("#main")).to_contain_text("Nothing is scheduled")
    spec = {
        "service": "Counter",
        "handler": "add",
        "key": "nightly",
        "cron": "0 3 * * *",
        "body": 1,
    }
    assert console.admin.put("/schedules/nightly", json=spec).is_success
    page = console.open("/ui/schedules", "Schedules")
    card = page.locator(".card")
    expect(card).to_contain_text("Counter/nightly/add")
    card.get_by_role("button", name="Pause").click()
    expect(card.get_by_role("button", name="Resume")).to_be_visible()
    card.get_by_role("button", name="Run now").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Counter/nightly/add")
    page = console.open("/ui/schedules", "Schedules")
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.locator(".card")).to_have_count(0)


def test_what_does_not_exist_is_told_in_place(console: Console) -> None:
    page = console.page
    page.goto(console.url + "/ui/invocations/inv_1nonsense")
    expect(page.get_by_role("alert")).to_contain_text("bad")
    page.goto(console.url + "/ui/objects/Nobody/x")
    expect(page.get_by_role("alert")).to_contain_text("does not exist")
