"""The loops that actors run on."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest
import uvloop

from perdure.actors.clock import run_virtual
from tests.actors.cast import Main


def _asyncio(main: Main) -> Any:
    return asyncio.run(main)


def _uvloop(main: Main) -> Any:
    return uvloop.run(main)


def _virtual(main: Main) -> Any:
    return run_virtual(main, seed=7)


@pytest.fixture(params=[_asyncio, _uvloop, _virtual])
def run(request: pytest.FixtureRequest) -> Callable[[Main], Any]:
    """Runs a coroutine to its end, on one kind of loop after the other."""
    runner: Callable[[Main], Any] = request.param
    return runner


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
