"""Pictures of the console for the README: ``python -m tests.console.screenshots`` writes docs/images anew."""

import random
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Browser, expect, sync_playwright

from tests.console.browsers import Console, find_chromium, launch
from tests.console.conftest import PROGRAM
from tests.crash.server import Server

IMAGES = Path(__file__).parents[2] / "docs/images"
MOST_BYTES = 150_000
_ITEMS = ("tea", "cake", "coffee", "bread", "jam")


def fill(console: Console) -> str:
    """Some life for the pictures; the id of an order with a whole timeline."""
    rng = random.Random(7)
    for number in range(120):
        console.ingress.post(f"/Counter/{rng.choice(_ITEMS)}/add", json=number % 5)
    for item in _ITEMS:
        console.ingress.post("/Shop/order", json={"item": item, "amount": 2})
    for days in range(1, 8):
        console.send("Shop/ship", days)
    for path in ("Shop/retry", "Counter/tea/hold", "Approval/autumn-sale/run"):
        console.send(path, "Autumn sale" if path.startswith("Approval") else None)
    for _ in range(3):
        console.send("Counter/tea/add", 1)
    console.send("Shop/stumble", "the label printer is out of paper")
    console.send("Shop/refuse", "sold out")
    answer = console.ingress.post("/Shop/order", json={"item": "scone", "amount": 3})
    return answer.headers["x-restate-id"]


def take(browser: Browser, server: Server, folder: Path, order: str) -> list[Path]:
    """Three pictures in ``folder``. ``order``: the invocation whose timeline is shown."""
    wide = Console(browser, server.admin_url, server.ingress_url, color_scheme="light")
    phone = Console(
        browser,
        server.admin_url,
        server.ingress_url,
        color_scheme="dark",
        viewport={"width": 390, "height": 844},
        has_touch=True,
        is_mobile=True,
    )

    def overview() -> None:
        wide.open("/ui/", "Overview")
        for _ in range(20):
            wide.ingress.post("/Counter/bread/add", json=1)
        rate = wide.page.locator(".tile").filter(has_text="Completed")
        expect(rate).to_contain_text(re.compile(r"\d"))  # it takes two looks

    def timeline() -> None:
        wide.open(f"/ui/invocations/{order}", "Shop/order")
        wide.page.locator(".timeline .child").first.wait_for()

    def list_on_a_phone() -> None:
        phone.open("/ui/invocations", "Invocations")
        phone.page.locator(".rows .what").first.wait_for()

    pictures: list[tuple[str, Console, Callable[[], None]]] = [
        ("console-overview.png", wide, overview),
        ("console-timeline.png", wide, timeline),
        ("console-phone.png", phone, list_on_a_phone),
    ]
    paths = []
    for name, console, show in pictures:
        show()
        paths.append(folder / name)
        console.page.screenshot(path=paths[-1], animations="disabled", caret="hide")
    wide.close()
    phone.close()
    assert wide.complaints + phone.complaints == []
    return paths


def main() -> None:
    executable = find_chromium()
    assert executable, "there is no Chromium"
    IMAGES.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as scratch,
        Server(Path(scratch) / "data", f"{PROGRAM}:app") as server,
        sync_playwright() as playwright,
    ):
        browser = launch(playwright, executable)
        first = Console(browser, server.admin_url, server.ingress_url)
        order = fill(first)
        first.close()
        for path in take(browser, server, IMAGES, order):
            print(path, path.stat().st_size)
        browser.close()


if __name__ == "__main__":
    main()
