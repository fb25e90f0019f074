"""A pytest plugin for the conformance suite: what is asked in SQL there is asked of the admin API here.

Cases that need more than that are left out, with a reason; LEFT_OUT is what no target has yet.
"""

from typing import Any

import pytest

# Part of a test's id -> why it is left out.
LEFT_OUT = {
    "test_cli.py": "the official command line tool asks SQL",
    "test_introspection.py": "SQL",
    "test_selfcheck.py": "tests the suite itself",
    "in_sql": "SQL",
    "test_running_invocation_row": "SQL",
    "test_invoked_by_service": "SQL",
    "test_services_and_deployments_tables": "SQL",
    "test_bad_sql": "SQL",
    "test_journal_of_a_call": "SQL",
}
_TIMEOUT = "of the plugin pytest-timeout, which is not needed here"


def pytest_addoption(parser: pytest.Parser) -> None:
    for name in ("timeout", "timeout_method"):
        parser.addini(name, _TIMEOUT)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", f"timeout: {_TIMEOUT}")


def pytest_sessionstart(session: pytest.Session) -> None:
    """The suite's own modules can be imported now."""
    from conflib.client import Admin  # type: ignore[import-not-found]

    def status(admin: Any, invocation_id: str) -> str | None:
        answer = admin.req("GET", f"/invocations/{invocation_id}")
        return answer.json()["status"] if answer.status_code == 200 else None

    Admin.status = status


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    leave_out(config, items, LEFT_OUT)


def leave_out(config: pytest.Config, items: list[pytest.Item], reasons: dict[str, str]) -> None:
    """Deselect every case whose id has a part that is named."""
    left_out = [each for each in items if any(part in each.nodeid for part in reasons)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [each for each in items if each not in left_out]
