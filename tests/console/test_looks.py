"""How it looks: on a phone, in the dark, to those who do not see it, and in the pictures of the README."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.console.browsers import Console
from tests.console.screenshots import MOST_BYTES, fill, take
from tests.crash.server import Server

PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}
PATHS = (
    "", "services", "services/Shop/order", "invocations", "objects", "objects/Counter/tea", "timers",
    "schedules", "deployments",
)  # fmt: skip

_CONTRAST = """() => {
  const lin = (c) => { c /= 255; return c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; };
  const rgb = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => 0.2126 * lin(r) + 0.7152 * lin(g) + 0.0722 * lin(b);
  const ground = (node) => {
    for (; node; node = node.parentElement) {
      const found = rgb(getComputedStyle(node).backgroundColor);
      if (found.length === 3 || found[3] > 0) return found;
    }
    return [255, 255, 255];
  };
  const bad = [];
  for (const node of document.querySelectorAll('body *')) {
    const own = [...node.childNodes].some((kid) => kid.nodeType === 3 && kid.textContent.trim());
    const style = getComputedStyle(node);
    if (!own || !node.checkVisibility() || style.clipPath !== 'none' || node.disabled) continue;
    const [a, b] = [light(rgb(style.color)), light(ground(node))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const name = `${node.tagName}.${node.className} '${node.textContent.slice(0, 20)}'`;
    if (ratio < 4.5) bad.push(`${name} ${ratio.toFixed(2)}`);
  }
  return bad;
}"""
_NAMELESS = """() => [...document.querySelectorAll('button, a, input, select, textarea')]
  .filter((node) => node.checkVisibility())
  .filter((node) => !(node.textContent.trim() && !/^(INPUT|SELECT|TEXTAREA)$/.test(node.tagName))
    && !node.getAttribute('aria-label') && !(node.labels && node.labels.length))
  .map((node) => node.outerHTML)"""


@pytest.fixture(scope="module")
def order(server: Server, browser: Browser) -> Iterator[str]:
    console = Console(browser, server.admin_url, server.ingress_url)
    yield fill(console)
    console.close()


def _pages(console: Console, order: str) -> Iterator[Page]:
    for path in (*PATHS, f"invocations/{order}"):
        yield console.open(f"/ui/{path}")


def test_no_page_is_wider_than_a_phone(server: Server, browser: Browser, order: str) -> None:
    console = Console(browser, server.admin_url, server.ingress_url, **PHONE)
    for page in _pages(console, order):
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= 360, page.url
        expect(page.get_by_role("navigation")).to_be_in_viewport()
    console.close()
    assert console.complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_contrast_and_every_control_a_name(
    server: Server, browser: Browser, order: str, scheme: str
) -> None:
    console = Console(browser, server.admin_url, server.ingress_url, color_scheme=scheme)
    for page in _pages(console, order):
        assert page.evaluate(_CONTRAST) == [], page.url
        assert page.evaluate(_NAMELESS) == [], page.url
    ground = console.page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert (ground == "rgb(14, 20, 19)") is (scheme == "dark")
    console.close()
    assert console.complaints == []


def test_the_pictures_of_the_readme_can_be_taken(
    server: Server, browser: Browser, order: str, tmp_path: Path
) -> None:
    for path in take(browser, server, tmp_path, order):
        assert 5_000 < path.stat().st_size < MOST_BYTES, path.name
