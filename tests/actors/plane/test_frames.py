"""Frames, hellos and sockets: what is refused, and how clearly."""

import asyncio
import os
import socket
import stat
import struct
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from perdure.actors.plane import messages, sockets
from perdure.actors.plane.connection import HELLO_LIMIT_BYTES, Connection, FrameTooLarge
from perdure.actors.plane.faults import fault, raised
from perdure.actors.plane.messages import (
    MAGIC,
    VERSION,
    Ack,
    Ask,
    Hello,
    Message,
    Rows,
    Unwelcome,
    Welcome,
)
from perdure.actors.plane.methods import METHODS, Method
from perdure.actors.plane.sockets import UnsafeSocket, listening_socket, prepare_directory
from perdure.journal import errors
from perdure.journal.effects import Precondition
from perdure.journal.errors import Overloaded, PerdureError
from perdure.journal.schedules_requests import ScheduleRefused
from tests.actors.plane.stage import Machine, content, play, to, until


class Ear(Connection):
    """Notes what it hears."""

    def __init__(self, limit_bytes: int = 1 << 20) -> None:
        super().__init__(limit_bytes)
        self.heard: list[Message] = []
        self.reason = ""

    def received(self, message: Message) -> None:
        self.heard.append(message)

    def lost(self, reason: str) -> None:
        self.reason = reason


def frame(message: object) -> bytes:
    payload = messages.encoder.encode(message)
    return struct.pack(">I", len(payload)) + payload


def hello(wanted: str = "partition-0", version: int = VERSION, **more: Any) -> Hello:
    return Hello(MAGIC, version, wanted, more.pop("epoch", 1), more.pop("session", b"s"), 1, **more)


async def two(place: Path, limit_bytes: int = 1 << 20) -> tuple[Ear, Ear]:
    """Both ends of one connection."""
    loop, ears = asyncio.get_running_loop(), []

    def new() -> Ear:
        ears.append(Ear(limit_bytes))
        return ears[-1]

    listening = listening_socket(place / "run" / "s")
    server = await loop.create_unix_server(new, sock=listening)
    _, here = await loop.create_unix_connection(new, str(place / "run" / "s"))
    await until(lambda: len(ears) == 2 and all(each.is_open for each in ears))
    server.close()
    for each in ears:
        each.read_all()
    return here, next(each for each in ears if each is not here)


@pytest.mark.parametrize("seed", range(3))
def test_frames_arrive_whole_however_they_are_cut(tmp_path: Path, seed: int) -> None:
    async def scene() -> None:
        here, _ = await two(tmp_path)
        rng = Random(seed)
        sent = [Rows([(n, rng.randbytes(rng.randrange(300)))]) for n in range(200)]
        stream = b"".join(frame(each) for each in sent)
        while stream:
            size = rng.choice([1, 2, 3, 5, rng.randrange(1, 2_000)])
            here.data_received(stream[:size])
            stream = stream[size:]
        assert here.heard == sent
        here.abort("done")

    play(scene)


def test_what_is_sent_in_one_turn_leaves_in_one_write(tmp_path: Path) -> None:
    async def scene() -> None:
        here, there = await two(tmp_path)
        for n in range(100):
            here.send(Ack(n))
        assert there.heard == []
        await until(lambda: len(there.heard) == 100)
        assert there.heard == [Ack(n) for n in range(100)]
        here.close("done")
        await until(lambda: there.reason != "")

    play(scene)


def test_the_other_end_can_make_us_wait(tmp_path: Path) -> None:
    async def scene() -> None:
        here, there = await two(tmp_path, 16 << 20)
        there.pause_reading()
        sent = 0
        while not here.paused:
            here.send(Rows([(sent, bytes(100_000))]))
            sent += 1
            await asyncio.sleep(0)
        assert sent < 100
        there.resume_reading()
        await until(lambda: not here.paused and len(there.heard) == sent)
        here.abort("done")

    play(scene)


def test_a_frame_over_the_limit_is_neither_sent_nor_read(tmp_path: Path) -> None:
    async def scene() -> None:
        here, there = await two(tmp_path, 5_000)
        here.send(Ack(1))
        with pytest.raises(FrameTooLarge, match="5000"):
            here.send(Rows([(1, bytes(6_000))]))
        here.send(Ack(2))
        await until(lambda: there.heard == [Ack(1), Ack(2)])
        there.data_received(struct.pack(">I", 5_001))
        assert "5001" in there.reason
        await until(lambda: not here.is_open)

    play(scene)


@pytest.mark.parametrize(
    "raw",
    [
        b"\xc1\xc1",
        messages.encoder.encode([99, 1]),
        messages.encoder.encode({"kind": "call"}),
        messages.encoder.encode([3, "no number"]),
        messages.encoder.encode([12]),
        b"",
    ],
)
def test_what_is_no_message_ends_the_connection(tmp_path: Path, raw: bytes) -> None:
    async def scene() -> None:
        here, there = await two(tmp_path)
        here.data_received(struct.pack(">I", len(raw)) + raw)
        assert "does not speak as agreed" in here.reason
        await until(lambda: not there.is_open)

    play(scene)


async def say(machine: Machine, *said: bytes) -> list[Message]:
    """What the first partition answers until it hangs up, or has welcomed us and heard all."""
    reader, writer = await asyncio.open_unix_connection(machine.path(0))
    for each in said:
        writer.write(each)
    writer.write_eof()
    raw = await reader.read()
    writer.close()
    found: list[Message] = []
    while raw:
        size = struct.unpack_from(">I", raw)[0]
        found.append(messages.decode(raw[4 : 4 + size]))
        raw = raw[4 + size :]
    return found


def test_a_hello_is_checked(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Machine(tmp_path) as machine:
            assert await say(machine, frame(hello())) == [Welcome("partition-0", 1)]
            (other,) = await say(machine, frame(hello("partition-7")))
            assert isinstance(other, Unwelcome)
            assert "this is partition-0, epoch 1" in other.reason
            (former,) = await say(machine, frame(hello(epoch=9)))
            assert isinstance(former, Unwelcome)
            (newer,) = await say(machine, frame([0, MAGIC, VERSION + 1, {"a": "new shape"}]))
            assert isinstance(newer, Unwelcome)
            assert f"version {VERSION} of the data plane" in newer.reason
            assert await say(machine, frame([0, "somebody", 1])) == []
            assert await say(machine, frame(Ack(1))) == []
            assert await say(machine, struct.pack(">I", HELLO_LIMIT_BYTES + 1)) == []
            assert await say(machine, b"GET / HTTP/1.1\r\n\r\n") == []
            assert content(await machine.cluster.call(to("echo", None, b'"x"'))) == b'"x"'

    play(scene)


def test_who_says_no_hello_is_let_go(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Machine(tmp_path, hello_timeout_s=0.05) as machine:
            reader, writer = await asyncio.open_unix_connection(machine.path(0))
            with suppress(ConnectionResetError):
                assert await reader.read() == b""
            writer.close()

    play(scene)


def test_a_newer_connection_of_a_caller_ends_its_older_one(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Machine(tmp_path) as machine:
            reader, writer = await asyncio.open_unix_connection(machine.path(0))
            writer.write(frame(Hello(MAGIC, VERSION, "partition-0", 1, b"one", 1)))
            assert await reader.readexactly(4)
            (welcome,) = await say(
                machine, frame(Hello(MAGIC, VERSION, "partition-0", 1, b"one", 2))
            )
            assert isinstance(welcome, Welcome)
            writer.write(frame(Ask(1, "schedules.list", Method.encode(()))))
            try:
                rest = await reader.read()
            except ConnectionResetError:
                rest = b""
            assert len(rest) < 40  # the welcome, and no answer
            (late,) = await say(machine, frame(Hello(MAGIC, VERSION, "partition-0", 1, b"one", 1)))
            assert isinstance(late, Unwelcome)
            writer.close()

    play(scene)


def test_sockets_are_for_this_user_alone(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Machine(tmp_path) as machine:
            path = machine.path(0)
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert not path.exists()

    play(scene)


def test_a_directory_that_others_can_enter_is_closed_to_them(tmp_path: Path) -> None:
    place = tmp_path / "run"
    place.mkdir(mode=0o755)
    prepare_directory(place)
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    link = tmp_path / "link"
    link.symlink_to(place)
    with pytest.raises(UnsafeSocket, match="not a directory"):
        prepare_directory(link)


def test_a_dead_process_socket_is_replaced_and_a_file_is_not(tmp_path: Path) -> None:
    path = tmp_path / "run" / "s"
    listening_socket(path).close()
    listening_socket(path).close()
    path.unlink()
    path.write_text("precious")
    with pytest.raises(UnsafeSocket, match="no socket"):
        listening_socket(path)
    assert path.read_text() == "precious"


def test_a_path_may_be_longer_than_an_address(tmp_path: Path) -> None:
    async def scene() -> None:
        place = tmp_path / ("d" * 90) / ("e" * 90)
        place.mkdir(parents=True)
        async with Machine(place) as machine:
            assert content(await machine.cluster.call(to("echo", None, b'"x"'))) == b'"x"'

    play(scene)


def test_a_process_of_another_user_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair()

    class Transport(asyncio.BaseTransport):
        def get_extra_info(self, name: str, default: Any = None) -> Any:
            return ours if name == "socket" else default

    sockets.check_peer(Transport())
    euid = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: euid + 1)
    with pytest.raises(UnsafeSocket, match=f"of user {euid} is refused"):
        sockets.check_peer(Transport())
    ours.close()
    theirs.close()


@pytest.mark.parametrize(
    "error",
    [
        PerdureError("p"),
        errors.BadId("bad format"),
        errors.StoreFailed("s"),
        errors.Indeterminate("i"),
        errors.MessageGap("g"),
        FrameTooLarge("f"),
        Overloaded("o", 7),
        ScheduleRefused(409, "there is one"),
    ],
)
def test_an_error_is_the_same_on_the_other_side(error: PerdureError) -> None:
    raw = messages.encoder.encode(fault(4, error))
    found = raised(messages.decode(raw))
    assert type(found) is type(error)
    assert (str(found), found.args, found.code) == (str(error), error.args, error.code)


def test_an_error_of_no_known_class_travels_as_its_parent() -> None:
    found = raised(fault(1, Precondition("RT0017", "bad")))
    assert type(found) is PerdureError
    assert "the partition failed" in str(raised(fault(1, KeyError("x"))))


def test_arguments_of_another_shape_are_an_error_for_who_asked(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Machine(tmp_path) as machine:
            for ask in (
                Ask(1, "output", Method.encode((1, 2, 3))),
                Ask(1, "no such method", Method.encode(())),
            ):
                greeting = hello(session=ask.method.encode())
                found = (await say_and_wait(machine, frame(greeting), frame(ask)))[-1]
                assert type(found).__name__ == "Fault"
            assert METHODS["operate"].repeats is False

    play(scene)


async def say_and_wait(machine: Machine, *said: bytes) -> list[Message]:
    """As ``say``, until there are two answers."""
    reader, writer = await asyncio.open_unix_connection(machine.path(0))
    writer.write(b"".join(said))
    found = []
    for _ in range(2):
        size = struct.unpack(">I", await reader.readexactly(4))[0]
        found.append(messages.decode(await reader.readexactly(size)))
    writer.close()
    return found


def test_a_message_keeps_its_form_on_the_wire() -> None:
    raw = messages.encoder.encode(Hello(MAGIC, 1, "partition-0", 3, b"s", 2))
    assert msgspec.msgpack.decode(raw) == [0, MAGIC, 1, "partition-0", 3, b"s", 2, None, 0]
    assert msgspec.msgpack.decode(messages.encoder.encode(Ack(5))) == [12, 5]
