"""A pytest plugin for the conformance suite: `perdure up` hosts its programs, nothing is registered.

The suite starts a server and registers an endpoint on it. Here the server is the endpoint. Used with
`suite_plugin`.
"""

from typing import Any

import pytest
from suite_plugin import leave_out  # type: ignore[import-not-found]

# What cannot be asked of handlers in this process: part of a test's id -> why.
LEFT_OUT = {
    "test_admin.py": "registration of deployments",
    "test_cli.py": "registration of deployments",
    "test_introspection.py": "registration of deployments",
    "test_signing.py": "signed requests to a deployment",
    "test_public_service_can_be_made_private": "modifying a registered service",
    "test_admin_changes_survive": "modifying a registered service",
    "test_registration_is_retained": "registration of deployments",
    "test_server_default_policy_pauses": "a call to an unknown handler fails at once, by design",
}


def pytest_sessionstart(session: pytest.Session) -> None:
    """The suite's own modules can be imported now."""
    from conflib.client import eventually  # type: ignore[import-not-found]
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

    Lab.use, Lab.register = use, register


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    leave_out(config, items, LEFT_OUT)
