"""Whatever a caller puts into keys, payloads, names and errors is text on every page, and never a script."""

from urllib.parse import quote

import pytest
from playwright.sync_api import expect

from tests.console.browsers import Console

HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "</pre><script>alert(2)</script>",
    "\"><svg/onload=alert(3)>'",
    "javascript:alert(4)",
    "{{7*7}}${7*7}\u202e\u0000\u2028",
)


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_text_is_shown_as_it_is(console: Console, text: str) -> None:
    key = text.replace("\u0000", "")
    place = quote(key, safe="")
    console.ingress.post(f"/Counter/{place}/note", json=text)
    refused = console.send("Shop/refuse", text)
    paused = console.send("Shop/stumble", text)
    page = console.open(f"/ui/objects/Counter/{place}", "Counter")
    expect(page.locator(".values pre")).to_be_visible()
    for id in (refused, paused):
        console.open(f"/ui/invocations/{id}", "Shop")
        expect(page.locator(".failure").first).to_be_visible()
        page.locator(".timeline summary").first.click()
    for path in ("invocations", f"invocations?key={place}", "objects", "services", ""):
        console.open(f"/ui/{path}")
    console.open(f"/ui/invocations?service={place}", "Invocations")
    assert page.locator("#main img, #main script, #main svg[onload]").count() == 0
    assert key.strip()[:6] in console.open("/ui/objects", "Objects").locator("tbody").inner_text()


def test_even_an_injected_script_could_not_run_or_reach_out(console: Console) -> None:
    """The second wall: the policy, if the first one had a hole."""
    page = console.open("/ui/", "Overview")
    page.evaluate(
        """() => {
          window.ran = false;
          const script = document.createElement('script');
          try { script.textContent = 'window.ran = true'; document.body.append(script); } catch (e) {}
          try { document.body.innerHTML += '<img src=x onerror="window.ran = true">'; } catch (e) {}
          fetch('http://127.0.0.1:9/').catch(() => {});
        }"""
    )
    expect(page.locator("#main h1")).to_be_visible()
    assert page.evaluate("window.ran") is False
    assert any("Content Security Policy" in each for each in console.complaints)
    console.complaints.clear()  # they were asked for
