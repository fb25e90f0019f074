"""The fixture ``run``: a scenario in each of the four modes."""

from typing import Any

import pytest

from perdure.embedded import Services
from tests.features.modes import Effects, Mode, Run, Scenario, carry_out


@pytest.fixture(params=list(Mode), ids=str)
def run(request: pytest.FixtureRequest) -> Run:
    """``run(scenario, services)``, as ``carry_out`` does."""
    mode = request.param

    def run(scenario: Scenario, services: Services, **options: Any) -> list[Any]:
        return carry_out(mode, scenario, services, **options)

    return run


@pytest.fixture
def effects() -> Effects:
    return Effects()
