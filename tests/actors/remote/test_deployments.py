"""Which deployment runs an attempt, where the answer is: none any more."""

import asyncio
from collections.abc import Callable

from perdure.actors.registry import Registry
from perdure.actors.remote.deployments import Deployments
from perdure.hosting import Hosted
from perdure.journal.attempt import Failed, Frame, Start
from perdure.journal.entries import Input
from perdure.journal.schema import Handler, HandlerType, ServiceType

HANDLER = Handler("Greeter", "greet", HandlerType.SERVICE, ServiceType.SERVICE)
START = Start(
    bytes(range(1, 25)),
    1,
    HANDLER,
    "",
    (Input((), b""),),
    {},
    False,
    7,
    deployment_id="dp_1gone",
    protocol_version=7,
)


class Listener:
    """A sink that keeps what it hears."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []

    def emit(self, frames: tuple[Frame, ...]) -> None:
        self.frames += frames

    def now_ms(self) -> int:
        return 0

    def ready(self, go_on: Callable[[], None]) -> bool:
        return True


def test_an_attempt_at_a_deployment_that_went_fails_in_a_later_turn_and_is_not_counted() -> None:
    async def scenario() -> None:
        deployments = Deployments(Hosted([]), Registry())
        heard = Listener()
        deployments.start(START, heard)
        assert heard.frames == []
        await asyncio.sleep(0)
        (failed,) = heard.frames
        assert type(failed) is Failed
        assert failed.message == "[RT0011] deployment dp_1gone was removed"
        assert not failed.counts

    asyncio.run(scenario())


def test_an_abort_before_that_turn_leaves_nothing_to_hear() -> None:
    async def scenario() -> None:
        heard = Listener()
        Deployments(Hosted([]), Registry()).start(START, heard).abort()
        await asyncio.sleep(0)
        assert heard.frames == []

    asyncio.run(scenario())
