"""The short way takes plain requests only, reads them as aiohttp does, and keeps their order."""

import asyncio
from typing import Any

import pytest
from aiohttp import web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_parser import HttpRequestParser
from hypothesis import event, given
from hypothesis import strategies as st

from perdure.gateway.http_request import HttpRequest
from perdure.gateway.settings import Ingress
from perdure.gateway.short_way import PlainRequest, Reader, ShortWay
from perdure.gateway.ways import Way
from perdure.gateway.wire import Reply
from tests.gateway.serving import Served, answer_of, served

POST = b"POST /Counter/k/add HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
GET = b"GET /Counter/k/get HTTP/1.1\r\nhost: x\r\n\r\n"

# ---- what it takes, and how it reads that

_names = st.sampled_from(
    [b"host", b"Content-Type", b"X-A", b"x-a", b"Idempotency-Key", b"connection", b"Expect", b"upgrade"]
) | st.text("abcXYZ-_!9: \x00", min_size=1, max_size=6).map(str.encode)  # fmt: skip
_values = st.sampled_from(
    [b"close", b"keep-alive", b"upgrade", b"100-continue", b"a, b", b"", b"  spaced\t "]
) | st.text("aZ0 \t\"'()é\x7f\n", max_size=8).map(str.encode)
_paths = st.sampled_from(
    [b"/Counter/k/add", b"/a%20b?delay=1s", b"*", b"http://h/x", b"/a#b", b"//x"]
)
_bodies = st.binary(max_size=12)


@st.composite
def _requests(draw: st.DrawFn) -> bytes:
    body = draw(_bodies)
    length = draw(st.sampled_from([len(body), len(body), len(body), len(body) + 1, 0]))
    lines = [
        b" ".join([
            draw(st.sampled_from([b"POST", b"GET", b"POST", b"PUT", b"OPTIONS", b"HEAD", b"CONNECT"])),
            draw(_paths),
            draw(st.sampled_from([b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0"])),
        ]),
        *(name + b": " + value for name, value in draw(st.lists(st.tuples(_names, _values), max_size=4))),
    ]  # fmt: skip
    framing = draw(st.sampled_from(["length", "length", "none", "twice", "chunked", "both"]))
    if framing in ("length", "twice", "both"):
        lines += [b"content-length: %d" % length] * (2 if framing == "twice" else 1)
    if framing in ("chunked", "both"):
        lines.append(b"transfer-encoding: chunked")
        body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


class _Nobody(BaseProtocol):
    """What aiohttp's parser wants as its connection."""

    def pause_reading(self, resume_parser: bool = True) -> None: ...
    def resume_reading(self, resume_parser: bool = True) -> None: ...


def _of_aiohttp(loop: asyncio.AbstractEventLoop, data: bytes) -> list[tuple[Any, ...]]:
    parser = HttpRequestParser(
        _Nobody(loop), loop, 2**16, payload_exception=web.RequestPayloadError, auto_decompress=False
    )
    messages, _, _ = parser.feed_data(data)
    found = []
    for message, payload in messages:
        headers: dict[str, str] = {}
        for name, value in message.headers.items():
            headers.setdefault(name.lower(), value)
        body = payload.read_nowait() if payload.is_eof() else None
        found.append((message.method, message.path, headers, body, message.should_close))
    return found


@given(
    _requests(), st.sampled_from([b"", b"", b"GET / HTTP/1.1\r\n\r\n", b"\r\n", b"x"]), st.data()
)
def test_what_is_taken_is_read_as_aiohttp_reads_it(
    raw: bytes, behind: bytes, data: st.DataObject
) -> None:
    """Also in two pieces; whatever aiohttp refuses, or takes for more than one request, is not taken."""
    reader = Reader()
    cut = data.draw(st.integers(0, len(raw) + len(behind)))
    whole = raw + behind
    request = reader.read(whole[:cut]) if cut else None
    if request is not None and whole[cut:].strip(b"\r\n"):
        whole = whole[:cut]
    elif request is None:
        request = reader.read(whole[cut:])
    event(f"taken: {request is not None}")
    if request is None:
        return
    assert not reader.is_odd
    loop = asyncio.new_event_loop()
    try:
        (message,) = _of_aiohttp(loop, whole)
    finally:
        loop.close()
    body = asyncio.run(request.body(100))
    ours = (request.method, request.raw_path, request.headers, body, reader.closes)
    assert ours == message


def test_a_plain_request_is_taken_whole_and_in_pieces() -> None:
    raw = POST + b"content-length: 3\r\n\r\n123"
    reader = Reader()
    for _ in range(2):
        assert isinstance(reader.read(raw), PlainRequest)
        pieces = [raw[i : i + 1] for i in range(len(raw))]
        *before, last = [reader.read(piece) for piece in pieces]
        assert before == [None] * len(before)
        assert last is not None
        assert last.headers["content-length"] == "3"


# ---- order, and who is let wait

WAITS = b"POST /Counter/waits HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"


class _Transport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.is_reading_now = True

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None:
        self.is_reading_now = False

    def resume_reading(self) -> None:
        self.is_reading_now = True


class _Home:
    is_draining = False

    def came(self, connection: Way, transport: asyncio.Transport) -> None: ...

    def went(self, connection: Way) -> None: ...

    def long_way(self) -> asyncio.Protocol:
        raise AssertionError("this request was plain")

    http2_way = long_way


class _Stage:
    """A connection without a socket, whose answers wait for ``go``."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.asked: list[str] = []
        self.transport = _Transport()
        self.way = ShortWay(_Home(), self._answer)
        self.way.connection_made(self.transport)

    async def _answer(self, request: HttpRequest) -> Reply:
        self.asked.append(request.raw_path)
        if request.raw_path == "/Counter/waits":
            await self.go.wait()
        return Reply(200, b"", request.raw_path.encode())


def test_what_comes_behind_a_request_waits_for_its_answer() -> None:
    async def test() -> None:
        stage = _Stage()
        stage.way.data_received(WAITS)
        stage.way.data_received(GET)
        assert stage.asked == ["/Counter/waits"]
        stage.go.set()
        await asyncio.sleep(0)
        assert stage.asked == ["/Counter/waits", "/Counter/k/get"]
        assert stage.transport.written.index(b"waits") < stage.transport.written.index(b"/k/get")

    asyncio.run(test())


def test_who_sends_without_end_behind_a_request_is_not_read_from_meanwhile() -> None:
    async def test() -> None:
        stage = _Stage()
        stage.way.data_received(WAITS)
        large = POST + b"content-length: 300000\r\n\r\n"
        stage.way.data_received(large + b"x" * 270_000)
        assert not stage.transport.is_reading_now

    asyncio.run(test())


def test_who_does_not_read_its_answers_gets_no_more_of_them() -> None:
    async def test() -> None:
        stage = _Stage()
        stage.way.pause_writing()
        stage.way.data_received(GET)
        assert stage.asked == []
        stage.way.resume_writing()
        assert stage.asked == ["/Counter/k/get"]

    asyncio.run(test())


def test_a_request_goes_on_when_its_client_has_gone() -> None:
    async def test() -> None:
        stage = _Stage()
        stage.way.data_received(WAITS)
        stage.way.connection_lost(None)
        stage.go.set()
        await asyncio.sleep(0)
        assert (stage.way.served, stage.transport.written) == (1, b"")

    asyncio.run(test())


# ---- with sockets


def test_a_body_behind_its_head_stays_on_the_short_way_and_two_requests_at_once_do_not() -> None:
    async def test(on: Served) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", on.ingress_port)
        server = on.gateway.servers[0]
        writer.write(POST + b"content-length: 1\r\n\r\n")
        while not any(isinstance(each, ShortWay) and each.is_within for each in server.everyone):
            await asyncio.sleep(0)
        writer.write(b"1")
        assert (await answer_of(reader))[0] == 200
        assert server.connections == []
        writer.write(GET + GET)
        for _ in range(2):
            assert (await answer_of(reader))[0] == 200
        assert [type(each) for each in server.everyone] == [
            type(each) for each in server.connections
        ]
        writer.close()

    served(test)


def test_an_idle_connection_is_closed_after_its_time() -> None:
    async def test(on: Served) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", on.ingress_port)
        writer.write(GET)
        assert (await answer_of(reader))[0] == 200
        (connection,) = on.gateway.servers[0].everyone
        now = asyncio.get_running_loop().time()
        connection.sweep(now, Ingress())
        connection.sweep(now + Ingress().idle_timeout_ms / 1000 + 1, Ingress())
        assert await reader.read() == b""
        writer.close()

    served(test)


def test_a_client_that_connected_just_before_the_stop_is_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def test(on: Served) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", on.ingress_port)
        server = on.gateway.servers[0]
        while not server.everyone:
            await asyncio.sleep(0)
        told, tell = asyncio.Event(), server.pre_shutdown

        def tell_all() -> None:
            tell()
            told.set()

        monkeypatch.setattr(server, "pre_shutdown", tell_all)
        stopping = asyncio.create_task(on.gateway.stop())
        await told.wait()
        writer.write(b"GET /restate/health HTTP/1.1\r\nhost: a\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 200")
        await stopping
        writer.close()

    served(test)
