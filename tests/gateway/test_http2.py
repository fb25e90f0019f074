"""HTTP/2 at the ingress: the same answers, many at once, and clients that misbehave."""

import asyncio
from collections.abc import Callable

import pytest
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    InformationalResponseReceived,
    RemoteSettingsChanged,
    StreamReset,
)
from h2.settings import SettingCodes
from hyperframe.frame import GoAwayFrame, PingFrame, SettingsFrame, WindowUpdateFrame

from perdure.gateway.settings import Ingress
from perdure.journal.entries import Value
from tests.gateway.http2_peer import Peer, client_of, waiting, way
from tests.gateway.serving import Served, served, settings

SMALL = settings({"request_size_limit_bytes": 1000})
FAR_AHEAD_S = 1000.0
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


# ---- the same answers


@pytest.mark.parametrize(
    ("method", "path", "body", "headers"),
    [
        ("POST", "/Greeter/greet", b'"Ada"', {"content-type": "application/json"}),
        ("POST", "/Greeter/greet", b"Ada", {"content-type": "text/plain"}),
        ("POST", "/Counter/a%20key/add/send?delay=1s", b"1", {"content-type": "application/json"}),
        ("POST", "/Greeter/text", b'""', {"content-type": "application/json"}),
        ("GET", "/Counter/k/get", b"", {}),
        ("GET", "/restate/health", b"", {}),
        ("HEAD", "/restate/health", b"", {}),
        ("DELETE", "/restate/health", b"", {}),
        ("OPTIONS", "/Greeter/greet", b"", {"origin": "http://a.example"}),
        ("POST", "/nowhere", b"", {}),
        ("POST", "/Greeter/headers", b"\x00\xff", {"content-type": "a/b", "x-own": "\u00fc"}),
    ],
)
def test_the_answer_is_that_of_http1(
    method: str, path: str, body: bytes, headers: dict[str, str]
) -> None:
    async def test(on: Served) -> None:
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        answers = []
        async with client_of(on) as client:
            for each in (on.ingress, client):
                answer = await each.request(method, path, content=body, headers=raw)
                names = answer.headers.keys() - {"x-restate-id", "date"}
                shown = {name: answer.headers[name] for name in names}
                content = b"" if b"invocationId" in answer.content else answer.content
                answers.append((answer.status_code, shown, content))
            assert answer.http_version == "HTTP/2"
        assert answers[0] == answers[1]
        given = [dict(each.headers).get("x-own") for each in on.runtime.invokes]
        assert given in ([], [headers.get("x-own")] * 2)

    served(test)


def test_many_calls_wait_over_one_connection_and_each_gets_its_answer() -> None:
    async def test(on: Served) -> None:
        go = waiting(on)
        peer = await Peer.of(on)
        ids = [peer.ask("/Greeter/headers", b"%d" % n) for n in range(150)]
        while len(on.runtime.invokes) < len(ids):
            await asyncio.sleep(0)
        assert (await peer.answer(peer.ask("/Counter/k/get")))[0] == 200  # waits for none of them
        go.set()
        for n, id in enumerate(ids):
            assert await peer.answer(id) == (200, b"%d" % n)
        peer.close()

    served(test)


def test_large_bodies_go_both_ways() -> None:
    async def test(on: Served) -> None:
        body = bytes(range(256)) * 20_000
        async with client_of(on) as client:

            async def post() -> bytes:
                type_ = {"content-type": "a/b"}
                return (await client.post("/Greeter/headers", content=body, headers=type_)).content

            assert list(await asyncio.gather(post(), post(), post())) == [body] * 3

    served(test)


def test_an_answer_waits_for_a_client_without_room_and_others_pass_it() -> None:
    async def test(on: Served) -> None:
        peer = await Peer.of(on)
        peer.takes = False
        peer.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 1000})
        slow = peer.ask("/Greeter/headers", b"x" * 5000)
        assert len((await peer.until(DataReceived, slow)).data) == 1000
        assert await peer.answer(peer.ask("/Counter/k/get")) == (200, b"")
        peer.h2.increment_flow_control_window(4000, slow)
        peer.flush()
        assert await peer.answer(slow) == (200, b"x" * 4000)  # the first thousand were taken above
        peer.close()

    served(test)


def test_the_first_bytes_may_come_one_by_one() -> None:
    async def test(on: Served) -> None:
        peer = Peer(*await asyncio.open_connection("127.0.0.1", on.ingress_port))
        for byte in peer.h2.data_to_send():
            peer.write(bytes([byte]))
            await asyncio.sleep(0)
        assert (await peer.answer(peer.ask("/Counter/k/get")))[0] == 200
        peer.close()

    served(test)


def test_expect_100_continue_is_honoured() -> None:
    async def test(on: Served) -> None:
        peer = await Peer.of(on)
        id = peer.ask("/Greeter/headers", None, ("expect", "100-continue"))
        await peer.until(InformationalResponseReceived, id)
        peer.h2.send_data(id, b"abc", end_stream=True)
        peer.flush()
        assert await peer.answer(id) == (200, b"abc")
        peer.close()

    served(test)


# ---- limits


def test_bodies_over_the_limit_are_refused_announced_or_not_and_the_connection_goes_on() -> None:
    async def test(on: Served) -> None:
        peer = await Peer.of(on)
        announced = peer.ask("/Greeter/headers", None, ("content-length", "1001"))
        assert await peer.answer(announced) == (413, b"length limit exceeded")
        peer.h2.send_data(announced, b"x" * 1001, end_stream=True)
        status, body = await peer.answer(peer.ask("/Greeter/headers", b"x" * 1001))
        assert (status, b"LengthLimitError" in body) == (413, True)
        assert await peer.answer(peer.ask("/Greeter/headers", b"x" * 1000)) == (200, b"x" * 1000)
        assert [each.body for each in on.runtime.invokes] == [b"x" * 1000]
        peer.close()

    served(test, config=SMALL)


def test_half_sent_bodies_together_have_a_limit_and_what_is_over_it_may_be_sent_again() -> None:
    async def test(on: Served) -> None:
        peer = await Peer.of(on)
        halves = []
        for _ in range(5):
            halves.append(id := peer.ask("/Greeter/headers", None))
            peer.h2.send_data(id, b"x" * 900)
        peer.flush()
        refused = await peer.until(StreamReset)
        assert (refused.stream_id, refused.error_code) == (halves[-1], ErrorCodes.REFUSED_STREAM)
        for id in halves[:-1]:
            peer.h2.send_data(id, b"y", end_stream=True)
            peer.flush()
            assert await peer.answer(id) == (200, b"x" * 900 + b"y")
        peer.close()

    served(test, config=SMALL)


def test_more_requests_at_once_than_it_was_told_are_refused_one_by_one() -> None:
    async def test(on: Served) -> None:
        go = waiting(on)
        peer = await Peer.of(on)
        ids = [peer.ask("/Greeter/headers", b"1") for _ in range(3)]
        told = await peer.until(RemoteSettingsChanged)
        assert told.changed_settings[SettingCodes.MAX_CONCURRENT_STREAMS].new_value == 2
        refused = await peer.until(StreamReset)
        assert (refused.stream_id, refused.error_code) == (ids[2], ErrorCodes.REFUSED_STREAM)
        go.set()
        for id in ids[:2]:
            assert await peer.answer(id) == (200, b"1")
        peer.close()

    served(test, config=settings({"streams_per_connection_limit": 2}))


def _give_up(peer: Peer) -> None:
    peer.h2.reset_stream(peer.ask("/Greeter/headers", None))


def _send_nothing(peer: Peer) -> None:
    if not peer.half:
        peer.half = peer.ask("/Greeter/headers", None)
    peer.h2.send_data(peer.half, b"")


def _change_settings(peer: Peer) -> None:
    peer.write(SettingsFrame(0, {SettingsFrame.MAX_FRAME_SIZE: 16_384}).serialize())


@pytest.mark.parametrize(
    ("wastes", "times"),
    [
        (_give_up, 101),
        (_send_nothing, 1001),
        (_change_settings, 11),
        (lambda peer: peer.write(PingFrame(0, b"12345678").serialize()), 101),
        (lambda peer: peer.write(WindowUpdateFrame(0, 1).serialize()), 1001),
    ],
)
def test_a_client_that_keeps_the_server_busy_for_nothing_is_turned_away(
    wastes: Callable[[Peer], None], times: int
) -> None:
    async def test(on: Served) -> None:
        peer = await Peer.of(on)
        assert (await peer.answer(peer.ask("/Counter/k/get")))[0] == 200
        connection = await way(on, lambda each: each.served == 1)
        connection.sweep(asyncio.get_running_loop().time(), Ingress())  # a new second
        for _ in range(times):  # nothing comes behind them, which would reset the connection
            wastes(peer)
        peer.flush()
        gone = await peer.until(ConnectionTerminated)
        assert gone.error_code == ErrorCodes.ENHANCE_YOUR_CALM
        await peer.rest()
        assert len(on.runtime.invokes) == 1

    served(test)


def test_an_answer_that_its_client_does_not_take_is_given_up() -> None:
    async def test(on: Served) -> None:
        peer = await Peer.of(on)
        peer.takes = False
        peer.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 1000})
        id = peer.ask("/Greeter/headers", b"x" * 5000)
        await peer.until(DataReceived, id)
        connection = await way(on, lambda each: each.served == 1)
        now = asyncio.get_running_loop().time()
        connection.sweep(now + Ingress().idle_timeout_ms / 2000, Ingress())
        assert (await peer.answer(peer.ask("/Counter/k/get")))[0] == 200
        assert not [each for each in peer.events if isinstance(each, StreamReset)]
        connection.sweep(now + FAR_AHEAD_S, Ingress())
        assert (await peer.until(StreamReset)).stream_id == id
        peer.close()

    served(test)


def test_a_body_that_stalls_is_reset_and_an_idle_connection_is_closed() -> None:
    async def test(on: Served) -> None:
        peer = await Peer.of(on)
        id = peer.ask("/Greeter/headers", None)
        peer.h2.send_data(id, b"x")
        peer.flush()
        connection = await way(on, lambda each: each.half_bytes > 0)
        now = asyncio.get_running_loop().time()
        connection.sweep(now, Ingress())
        connection.sweep(now + FAR_AHEAD_S, Ingress())
        assert (await peer.until(StreamReset, id)).error_code == ErrorCodes.CANCEL
        await peer.rest()
        assert on.runtime.invokes == []

    served(test)


# ---- the end


def test_a_call_goes_on_when_its_client_gives_it_up() -> None:
    async def test(on: Served) -> None:
        go = waiting(on)
        peer = await Peer.of(on)
        id = peer.ask("/Greeter/headers", b"1")
        connection = await way(on, lambda each: each.active)
        peer.h2.reset_stream(id)
        assert (await peer.answer(peer.ask("/Counter/k/get")))[0] == 200  # the reset was heard
        assert connection.active
        go.set()
        while connection.active:
            await asyncio.sleep(0)
        assert Value(b"1") in [each.result() for each in on.runtime.tasks.values()]
        assert (await peer.answer(peer.ask("/Counter/k/get")))[0] == 200
        peer.close()

    served(test)


def test_what_is_given_up_in_the_same_breath_is_not_begun_and_harms_no_other_call() -> None:
    async def test(on: Served) -> None:
        go = waiting(on)
        peer = await Peer.of(on)
        waits = peer.ask("/Greeter/headers", b"1")
        await way(on, lambda each: each.active)
        for more in ((), (("expect", "100-continue"),)):
            id = peer.h2.get_next_available_stream_id()
            head = [(":method", "GET"), (":scheme", "http"), (":authority", "x"), *more]
            head.insert(3, (":path", "/restate/health"))
            peer.h2.send_headers(id, head, end_stream=not more)
            peer.h2.reset_stream(id)
            peer.flush()
        go.set()
        assert await peer.answer(waits) == (200, b"1")
        peer.close()

    served(test)


def test_a_server_that_stops_says_that_it_takes_no_more_and_answers_what_it_has() -> None:
    async def test(on: Served) -> None:
        go = waiting(on)
        peer = await Peer.of(on)
        id = peer.ask("/Greeter/headers", b"the answer")
        await way(on, lambda each: each.active)
        stopping = asyncio.create_task(on.gateway.stop())
        gone = await peer.until(ConnectionTerminated)
        assert (gone.error_code, gone.last_stream_id) == (ErrorCodes.NO_ERROR, id)
        go.set()
        await stopping
        assert b"the answer" in await peer.rest()

    served(test)


def test_a_client_that_says_goodbye_still_gets_its_answers() -> None:
    async def test(on: Served) -> None:
        go = waiting(on)
        peer = await Peer.of(on)
        id = peer.ask("/Greeter/headers", b"1")
        await way(on, lambda each: each.active)
        peer.write(GoAwayFrame(0, last_stream_id=0).serialize())
        await way(on, lambda each: each.is_leaving)
        go.set()
        assert await peer.answer(id) == (200, b"1")
        assert await peer.rest() == b""

    served(test)


@pytest.mark.parametrize(
    "raw",
    [
        PREFACE + b"\x00\x00\x01\x00\x00\x00\x00\x00\x00x",  # data of no stream
        b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
        PREFACE
        + b"\x00\x00\x00\x04\x00"
        + bytes(4)
        + b"\x00\x00\x05\x01\x05\x00\x00\x00\x01"
        + b"\xff" * 5,
    ],
)
def test_what_is_no_http2_ends_the_connection_and_harms_nobody(raw: bytes) -> None:
    async def test(on: Served) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", on.ingress_port)
        writer.write(raw)
        await reader.read()
        writer.close()
        while on.gateway.servers[0].everyone:
            await asyncio.sleep(0)
        assert (await on.ingress.get("/restate/health")).status_code == 200

    served(test)
