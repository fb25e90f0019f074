"""HTTP/2 at the ingress under arbitrary bytes: answered, or the connection ends."""

import asyncio
from itertools import pairwise

from h2.config import H2Configuration
from h2.connection import H2Connection
from hypothesis import given
from hypothesis import strategies as st

from perdure.gateway.http2_way import Http2Way
from perdure.gateway.http_request import HttpRequest
from perdure.gateway.settings import Ingress
from perdure.gateway.ways import Way
from perdure.gateway.wire import Reply


class _Home:
    is_draining = False

    def came(self, connection: Way, transport: asyncio.Transport) -> None: ...

    def went(self, connection: Way) -> None: ...

    def long_way(self) -> asyncio.Protocol:
        raise AssertionError("this connection speaks HTTP/2")

    http2_way = long_way


class _Transport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.is_closed = False
        self._reads = True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.is_closed

    def is_closing(self) -> bool:
        return self.is_closed

    def is_reading(self) -> bool:
        return self._reads

    def pause_reading(self) -> None:
        self._reads = False

    def resume_reading(self) -> None:
        self._reads = True

    def abort(self) -> None:
        self.is_closed = True

    def close(self) -> None:
        self.is_closed = True


def _sound() -> bytes:
    """Requests with and without bodies, a reset, a ping and windows, as a client sends them."""
    h2 = H2Connection(H2Configuration())
    h2.initiate_connection()
    head = [(":method", "POST"), (":scheme", "http"), (":authority", "x"), (":path", "/a/b")]
    for id in (1, 3, 5, 7):
        h2.send_headers(id, [*head, ("x-own", "1" * id)], end_stream=id == 7)
    h2.send_data(1, b"x" * 500, end_stream=True)
    h2.send_data(3, b"y" * 500, pad_length=7)
    h2.reset_stream(5)
    h2.ping(b"12345678")
    h2.increment_flow_control_window(5000)
    h2.end_stream(3)
    return h2.data_to_send()


SOUND = _sound()
_CHANGE = st.tuples(st.integers(0, len(SOUND) - 1), st.integers(0, 255))


@given(
    changes=st.lists(_CHANGE, max_size=6),
    cuts=st.lists(st.integers(0, len(SOUND)), max_size=5),
    large=st.booleans(),
)
def test_whatever_comes_a_request_is_answered_or_the_connection_ends_and_nothing_raises(
    changes: list[tuple[int, int]], cuts: list[int], large: bool
) -> None:
    raw = bytearray(SOUND)
    for place, byte in changes:
        raw[place] = byte
    asked: list[str] = []

    async def answer(request: HttpRequest) -> Reply:
        asked.append(request.raw_path)
        await request.body(1 << 20)
        return Reply(200, b"a: b\r\n", b"z" * (100_000 if large else 10))

    async def run() -> None:
        transport = _Transport()
        http2 = Http2Way(_Home(), answer, Ingress())
        http2.connection_made(transport)
        edges = [0, *sorted(cuts), len(raw)]
        for start, end in pairwise(edges):
            if not transport.is_closed:
                http2.data_received(bytes(raw[start:end]))
            await asyncio.sleep(0)
            while not transport.is_reading() and not transport.is_closed:
                await asyncio.sleep(0)
        if not changes:
            assert asked == ["/a/b"] * 3
        assert http2.half_bytes >= 0
        await http2.shutdown(0)
        assert transport.is_closed

    asyncio.run(run())
