"""A pytest plugin for the conformance suite: what it needs of other plugins, and what is left out.

A case that cannot pass is left out with a reason.
"""

import pytest

# Part of a test's id -> why it is left out.
LEFT_OUT = {
    "test_selfcheck.py": "tests the suite itself",
}
_TIMEOUT = "of the plugin pytest-timeout, which is not needed here"


def pytest_addoption(parser: pytest.Parser) -> None:
    for name in ("timeout", "timeout_method"):
        parser.addini(name, _TIMEOUT)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", f"timeout: {_TIMEOUT}")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    leave_out(config, items, LEFT_OUT)


def leave_out(config: pytest.Config, items: list[pytest.Item], reasons: dict[str, str]) -> None:
    """Deselect every case whose id has a part that is named."""
    left_out = [each for each in items if any(part in each.nodeid for part in reasons)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [each for each in items if each not in left_out]
