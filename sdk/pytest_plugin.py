"""The pytest plugin: a fixture that runs durable code under test. Loaded by pytest's entry point.

def test_add(durable):
    async def scenario(system):
        assert await system.object_call(add, key="ada", arg=2) == 2

    durable(scenario, services=[counter])
"""

from typing import Any

import pytest


class Durable:
    """Runs scenarios as ``perdure.testing.run`` does; ``--perdure-seed`` chooses another order."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def __call__(self, scenario: Any, services: Any, **options: Any) -> Any:
        """Options are those of ``perdure.testing.run``."""
        from perdure import testing

        return testing.run(scenario, services, **{"seed": self.seed, **options})

    def crash_at_every_commit(self, scenario: Any, services: Any, **options: Any) -> Any:
        """Options are those of ``perdure.testing.crash_at_every_commit``."""
        from perdure import testing

        options = {"seed": self.seed, **options}
        return testing.crash_at_every_commit(scenario, services, **options)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("perdure")
    group.addoption(
        "--perdure-seed",
        type=int,
        default=0,
        help="seed for the order of events and the chance in durable tests (default: 0)",
    )


@pytest.fixture
def durable(request: pytest.FixtureRequest) -> Durable:
    """Runs ``durable(scenario, services=[...])`` on the real engine and a virtual clock."""
    return Durable(request.config.getoption("--perdure-seed"))
