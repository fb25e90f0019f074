"""What libraries build on: replay-aware logging, and context managers whose value is reachable."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

import perdure
from perdure.extensions import contextvar
from perdure.replaying import restate_context_is_replaying


def test_lines_of_a_replay_are_dropped(caplog: pytest.LogCaptureFixture) -> None:
    logger = perdure.getLogger("perdure.tests.replay")
    token = restate_context_is_replaying.set(True)
    logger.warning("again")
    restate_context_is_replaying.reset(token)
    logger.warning("first")
    assert [each.message for each in caplog.records] == ["first"]


def test_asking_for_a_logger_twice_adds_one_filter() -> None:
    logger = perdure.getLogger("perdure.tests.twice")
    assert perdure.getLogger("perdure.tests.twice") is logger
    assert len(logger.filters) == 1


def test_filter_keeps_the_rule_of_its_base_class() -> None:
    record = logging.LogRecord("other", logging.INFO, "f", 1, "m", (), None)
    assert not perdure.RestateLoggingFilter("mine").filter(record)
    assert perdure.RestateLoggingFilter("other").filter(record)


@contextvar
@asynccontextmanager
async def resource(size: int) -> AsyncIterator[list[int]]:
    yield [0] * size


def test_value_is_reachable_inside_the_block_only() -> None:
    async def main() -> None:
        async with resource(2):
            assert resource.value == [0, 0]
            async with resource(0):
                assert resource.value == []
            assert resource.value == [0, 0]
        with pytest.raises(LookupError, match="resource has no value here"):
            resource.value  # noqa: B018

    asyncio.run(main())
