"""The small interface: spawn, tell, ask, stop, close, on the embedded system."""

import asyncio
from typing import Any

import pytest
from thespian.actors import Actor, ActorExitRequest

from perdure.actors.cell import ActorGone, SupervisedActor
from perdure.actors.clock import run_virtual
from perdure.actors.system import Actors, EmbeddedActors, Poisoned


class Counter(SupervisedActor):
    def __init__(self, start: int = 0) -> None:
        self.count = start

    def receiveMessage(self, msg: Any, sender: Any) -> None:
        match msg:
            case int():
                self.count += msg
            case "count":
                self.send(sender, self.count)


class Clumsy(Actor):  # type: ignore[misc]
    def receiveMessage(self, msg: Any, sender: Any) -> None:
        raise ValueError("dropped it")


class Late(SupervisedActor):
    async def receiveMessage(self, msg: Any, sender: Any) -> None:
        if not isinstance(msg, ActorExitRequest):
            await asyncio.sleep(msg)
            self.send(sender, msg)


def test_what_is_told_is_there_when_it_is_asked() -> None:
    async def main() -> None:
        actors: Actors = EmbeddedActors()
        counter = actors.spawn(Counter)
        for number in range(10):
            actors.tell(counter, number)
        assert await actors.ask(counter, "count") == 45
        await actors.close()

    asyncio.run(main())


def test_constructor_arguments_and_names_do_not_mix() -> None:
    async def main() -> None:
        actors = EmbeddedActors()
        assert await actors.ask(actors.spawn(Counter, 7), "count") == 7
        assert actors.spawn(Counter, name="one") == actors.spawn(Counter, name="one")
        with pytest.raises(TypeError, match="no name"):
            actors.spawn(Counter, 7, name="one")
        await actors.close()

    asyncio.run(main())


def test_a_late_answer_is_never_taken_for_another_one() -> None:
    async def main() -> None:
        actors = EmbeddedActors()
        late = actors.spawn(Late)
        with pytest.raises(TimeoutError):
            await actors.ask(late, 10, timeout_s=5)
        assert await actors.ask(late, 1, timeout_s=60) == 1
        await actors.close()

    run_virtual(main())


def test_a_poisoned_question_raises_with_the_traceback() -> None:
    async def main() -> None:
        actors = EmbeddedActors()
        with pytest.raises(Poisoned, match="dropped it"):
            await actors.ask(actors.spawn(Clumsy), 1)
        await actors.close()

    asyncio.run(main())


def test_a_stopped_actor_answers_with_its_absence() -> None:
    async def main() -> None:
        actors = EmbeddedActors()
        counter = actors.spawn(Counter)
        await actors.stop(counter)
        assert list(actors.iter_actors()) == []
        with pytest.raises(ActorGone):
            await actors.ask(counter, "count")
        await actors.stop(counter)  # again does no harm
        await actors.close()
        await actors.close()

    asyncio.run(main())


def test_two_systems_in_one_program_do_not_meet() -> None:
    async def main() -> None:
        one, two = EmbeddedActors(), EmbeddedActors()
        first = one.spawn(Counter, name="same")
        second = two.spawn(Counter, name="same")
        assert first != second
        await one.close()
        assert await two.ask(second, "count") == 0
        await two.close()

    asyncio.run(main())


def test_a_scenario_on_a_seeded_loop_has_one_trace_per_seed() -> None:
    class Noter(SupervisedActor):
        def receiveMessage(self, msg: Any, sender: Any) -> None:
            if not isinstance(msg, ActorExitRequest):
                notes.append(msg)

    class Relay(SupervisedActor):
        def __init__(self, name: str, to: Any) -> None:
            self.name = name
            self.to = to

        async def receiveMessage(self, msg: Any, sender: Any) -> None:
            if not isinstance(msg, ActorExitRequest):
                await asyncio.sleep(msg % 2)
                self.send(self.to, f"{self.name}{msg}")

    notes: list[str] = []

    async def main() -> tuple[str, ...]:
        notes.clear()
        actors = EmbeddedActors()
        noter = actors.spawn(Noter)
        relays = [actors.spawn(Relay, name, noter) for name in "abc"]
        for number in range(4):
            for relay in relays:
                actors.tell(relay, number)
        await asyncio.sleep(60)
        await actors.close()
        return tuple(notes)

    traces = [run_virtual(main(), seed=seed) for seed in range(15)]
    assert traces == [run_virtual(main(), seed=seed) for seed in range(15)]
    assert len(set(traces)) > 8
    assert {"".join(sorted(trace)) for trace in traces} == {"".join(sorted(traces[0]))}
