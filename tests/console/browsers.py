"""A headless Chromium that looks at a console and remembers everything that it should not have seen."""

import os
import shutil
from typing import Any
from urllib.parse import urlsplit

import httpx
from playwright.sync_api import Browser, Page, Playwright

PATIENCE_MS = 15_000
_NAMES = ("chromium", "chromium-browser", "google-chrome")


def find_chromium() -> str | None:
    """CHROMIUM in the environment, or the system's."""
    given = os.environ.get("CHROMIUM")
    return given or next((found for name in _NAMES if (found := shutil.which(name))), None)


def launch(playwright: Playwright, executable: str) -> Browser:
    return playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])


class Console:
    """One tab at ``url``. ``complaints``: scripts that failed, breaches of the policy, dialogs of scripts,
    requests to anywhere else."""

    def __init__(self, browser: Browser, url: str, ingress: str, **looks: Any) -> None:
        self.url = url
        self.ingress = httpx.Client(base_url=ingress, trust_env=False, timeout=30)
        self.admin = httpx.Client(base_url=url, trust_env=False, timeout=30)
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 860}, **looks})
        self.context.set_default_timeout(PATIENCE_MS)
        self.complaints: list[str] = []
        self.page: Page = self.context.new_page()
        host = urlsplit(url).netloc
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        self.page.on("dialog", self._dialog)
        self.page.on("request", lambda request: self._asked(request.url, host))

    def _heard(self, message: Any) -> None:
        text = message.text
        if message.type == "error" and "Failed to load resource" not in text:
            self.complaints.append(text)  # breaches of the policy among them
        elif "Content Security Policy" in text or "Trusted" in text:
            self.complaints.append(text)

    def _dialog(self, dialog: Any) -> None:
        self.complaints.append(f"a script opened a dialog: {dialog.message}")
        dialog.dismiss()

    def _asked(self, url: str, host: str) -> None:
        parts = urlsplit(url)
        if parts.scheme != "data" and parts.netloc != host:
            self.complaints.append(f"a request to {url}")

    def open(self, path: str, title: str | None = None) -> Page:
        """Go to a page of the console, and wait until it is there."""
        self.page.goto(self.url + path)
        heading = self.page.locator("#main h1")
        (heading.filter(has_text=title) if title else heading).first.wait_for()
        return self.page

    def send(self, path: str, body: object = None) -> str:
        """Send to the ingress; the invocation's id."""
        given = {} if body is None else {"json": body}
        answer = self.ingress.post(f"/{path}/send", **given)  # type: ignore[arg-type]
        assert answer.status_code == 202, answer.text
        return str(answer.json()["invocationId"])

    def close(self) -> None:
        self.context.close()
        self.ingress.close()
        self.admin.close()
