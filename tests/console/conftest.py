"""A `perdure up` and a browser for each file; a tab for each test, which must leave no complaint."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.console.browsers import Console, find_chromium, launch
from tests.crash.server import Server

PROGRAM = Path(__file__).parent / "program.py"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("console") / "data", f"{PROGRAM}:app") as made:
        yield made


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    executable = find_chromium()
    if executable is None:
        pytest.skip("there is no Chromium: install it, or set CHROMIUM to its executable")
    with sync_playwright() as playwright:
        made = launch(playwright, executable)
        yield made
        made.close()


@pytest.fixture
def console(server: Server, browser: Browser) -> Iterator[Console]:
    made = Console(browser, server.admin_url, server.ingress_url)
    yield made
    made.close()
    assert made.complaints == []
