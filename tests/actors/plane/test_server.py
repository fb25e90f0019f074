"""A server and its registry: handlers that are being registered, control, what closing does."""

import asyncio
from pathlib import Path

import pytest

from perdure.actors.plane.caller import Caller
from perdure.actors.plane.server import PlaneServer
from perdure.actors.plane.serving import Serving
from perdure.actors.registry import Registry
from perdure.journal.entries import Failure
from perdure.journal.errors import Overloaded, PerdureError, StoreFailed
from perdure.journal.inspecting import Look
from tests.actors.plane.stage import Machine, content, described, play, to, until


def forget_services(machine: Machine) -> None:
    machine.engines[0].registry.remove("")


def running_count(machine: Machine) -> int:
    roles = [each.role for each in machine.servers[0].connections]
    return sum(each.running_count for each in roles if isinstance(each, Serving))


def test_a_call_waits_for_a_handler_that_is_being_registered(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Machine(tmp_path) as machine:
            forget_services(machine)
            call = asyncio.ensure_future(machine.cluster.call(to("echo", None, b'"x"')))
            await until(lambda: running_count(machine) == 1)
            for service in described().values():
                machine.engines[0].registry.add(service, "")
            machine.servers[0].registry_changed()
            assert content(await call) == b'"x"'

    play(scene)


def test_a_handler_that_does_not_come_is_refused_for_now(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Machine(tmp_path, registry_wait_s=0.02) as machine:
            forget_services(machine)
            with pytest.raises(Overloaded, match="Plain/echo is not known to this partition"):
                await machine.cluster.call(to("echo", None, b'"x"'))

    play(scene)


def test_control_reaches_a_process_without_a_partition(tmp_path: Path) -> None:
    async def scene() -> None:
        async def control(request: bytes) -> bytes:
            if request == b"bad":
                raise PerdureError("not that")
            return request.upper()

        server = PlaneServer("gateway-1", 4, control=control)
        await server.listen(tmp_path / "run" / "g1")
        caller = Caller("gateway-1")
        caller.introduce(tmp_path / "run" / "g1", 4)
        assert await caller.control(b"reload") == b"RELOAD"
        with pytest.raises(PerdureError, match="not that"):
            await caller.control(b"bad")
        with pytest.raises(PerdureError, match="no partition"):
            await caller.ask("output", "inv_1")
        await caller.close()
        with pytest.raises(StoreFailed, match="this process stops"):
            await caller.control(b"reload")
        await server.close()

    play(scene)


def test_a_peer_is_asked_where_it_was_introduced_last(tmp_path: Path) -> None:
    async def scene() -> None:
        async def first(request: bytes) -> bytes:
            return b"first"

        async def second(request: bytes) -> bytes:
            return b"second"

        old = PlaneServer("gateway-0", 1, control=first)
        new = PlaneServer("gateway-0", 2, control=second)
        await old.listen(tmp_path / "run" / "g.1")
        await new.listen(tmp_path / "run" / "g.2")
        caller = Caller("gateway-0")
        caller.introduce(tmp_path / "run" / "g.1", 1)
        assert await caller.control(b"") == b"first"
        caller.introduce(tmp_path / "run" / "g.2", 2)
        caller.introduce(tmp_path / "run" / "g.1", 1)  # late news
        assert await caller.control(b"") == b"second"
        await caller.close()
        await old.close()
        await new.close()

    play(scene)


def test_callers_hold_on_while_a_server_closes_and_comes_back(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Machine(tmp_path) as machine:
            await machine.servers[0].close()
            call = asyncio.ensure_future(machine.cluster.call(to("echo", None, b'"x"')))
            await machine.engines[0].stop()
            await machine.links[0].close()
            await machine.revive(0)
            assert content(await call) == b'"x"'

    play(scene)


def test_a_look_goes_to_every_partition(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Machine(tmp_path, 2) as machine:
            looks = await machine.cluster.inspection.inspect(Look())
            assert len(looks.partitions) == 2

    play(scene)


def test_an_answer_that_no_frame_can_carry_is_an_error_for_its_caller(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Machine(tmp_path, frame_limit_bytes=5_000) as machine:
            with pytest.raises(PerdureError, match="more than the 5000"):
                await machine.cluster.call(to("echo", None, b'"' + b"x" * 6_000 + b'"'))
            for n in range(4):
                await machine.cluster.call(to("note", "a", b'"%d%s"' % (n, b"x" * 1_000)))
            answer = await machine.cluster.call(to("echo", None, b'"still there"'))
            assert content(answer) == b'"still there"'
            with pytest.raises(PerdureError, match="more than the 5000"):
                await machine.cluster.call(to("note", "a", b'"%s"' % (b"x" * 1_000)))

    play(scene)


def test_an_unknown_handler_in_a_registry_of_its_own_is_no_answer(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Machine(tmp_path) as machine:
            machine.partitions[0]._registry = Registry()
            done = await machine.cluster.call(to("echo", None, b'"x"', idempotency_key="k"))
            found = await machine.cluster.output(done.invocation_id)
            assert not isinstance(getattr(found, "result", None), Failure)
            assert getattr(found, "handler", 1) is None

    play(scene)
