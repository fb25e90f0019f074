"""HTTP/2 at the ingress, for clients and proxies that begin with it (prior knowledge, without TLS).

`h2` reads the frames; here are whole requests, their answers under flow control, and limits: a client
that resets what it asks for, sends without end or does not read has its bounds. A request whose client
goes away goes on, as in HTTP/1.1. Rules: ingress 1; RFC 9113.
"""

import asyncio
import logging
from typing import Final

from h2 import events
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings
from hyperframe.frame import GoAwayFrame

from perdure.actors.plane.driving import Drive
from perdure.gateway.http2_pieces import Goodbye, Pieces
from perdure.gateway.http_request import HttpRequest
from perdure.gateway.responses import TOO_LARGE, Refusal
from perdure.gateway.settings import Ingress
from perdure.gateway.ways import GIVE_UP_S, Answer, Home, Way
from perdure.gateway.wire import Reply

_HEAD_LIMIT_BYTES: Final = 16 * 1024
_STREAM_WINDOW_BYTES: Final = 1 << 20
_CONNECTION_WINDOW_BYTES: Final = 4 << 20
_FIRST_WINDOW_BYTES: Final = 65_535  # of a connection, before anything is said (RFC 9113 6.9.2)
_HELD_LIMIT: Final = 4  # bodies of the largest size that one connection may have half sent
_BODY_GRACE_S: Final = 10.0  # before the rate of a body is looked at
_SMALL_BYTES: Final = 64  # of a frame that is hardly worth its head
_TABLE_BYTES: Final = 4096  # of headers that answers may refer to; more makes each answer slower
_WASTE_LIMIT: Final = 1000  # in a second; see _WASTE
_WASTE: Final = {  # what asks for nothing, in thousandths of what a client may do in a second (S9)
    events.RemoteSettingsChanged: 100,
    events.StreamReset: 10,
    events.PingReceived: 10,
    events.PriorityUpdated: 1,
    events.UnknownFrameReceived: 1,
    events.WindowUpdated: 1,
}

log = logging.getLogger("perdure.gateway.http")


class _Told(Settings):
    """What the client is told. More requests than that are refused one by one; h2 would end them all."""

    @property  # type: ignore[misc]  # h2 never sets it
    def max_concurrent_streams(self) -> int:
        return 1 << 31


class _Stream:
    """One request and the answer to it. ``http_request.HttpRequest`` once it is ``asked``."""

    __slots__ = (
        "_body", "announced_bytes", "answered", "asked", "has_end", "headers", "method", "raw_path",
        "rest", "since_s",
    )  # fmt: skip

    def __init__(self, fields: list[tuple[bytes, bytes]], now_s: float) -> None:
        self.headers: dict[str, str] = {}
        for name, value in fields:
            text = value.decode("utf-8", "surrogateescape")
            self.headers.setdefault(name.decode("ascii"), text)
        take = self.headers.pop
        self.method = take(":method")
        self.raw_path = take(":path", "")
        take(":scheme", "")
        authority = take(":authority", "")
        if authority:
            self.headers["host"] = authority
        length = self.headers.get("content-length", "0")
        self.announced_bytes = int(length) if length.isdecimal() else 0
        self._body = bytearray()
        self.since_s = now_s  # it began, or the client took some of the answer
        self.has_end = False  # all of the request is here
        self.asked = False  # the gateway has it
        self.answered = False  # before it was whole
        self.rest: memoryview | None = None  # of the answer, while the client takes it slowly

    def add(self, data: bytes) -> None:
        self._body += data

    @property
    def size_bytes(self) -> int:
        """What came of its body."""
        return len(self._body)

    async def body(self, limit_bytes: int) -> bytes | Refusal:
        return TOO_LARGE if self.size_bytes > limit_bytes else bytes(self._body)


class Http2Way(Way):
    """One connection with many requests at once."""

    def __init__(self, home: Home, answer: Answer, settings: Ingress) -> None:
        super().__init__(home, answer)
        self._settings = settings
        self._h2 = H2Connection(H2Configuration(client_side=False, header_encoding=None))
        self._streams: dict[int, _Stream] = {}
        self._drives: dict[int, Drive] = {}  # those of streams that the client gave up included
        self._is_full = False  # the client does not read
        self.is_leaving = False  # it ends with its last answer
        self._takes_more = True  # until it has told the client otherwise
        self._flush_planned = False
        self._newest_id = 0
        self.half_bytes = 0  # of bodies that are not whole
        self._waste = 0  # since the last sweep
        self._pieces = Pieces()
        self._read_planned = False
        self._given_up: dict[int, float] = {}  # drives that nobody waits for, and since when

    # ---- from the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        limit = self._settings.streams_per_connection_limit
        self._h2.local_settings = _Told(
            client=False,
            initial_values={
                SettingCodes.MAX_CONCURRENT_STREAMS: limit,
                SettingCodes.INITIAL_WINDOW_SIZE: _STREAM_WINDOW_BYTES,
                SettingCodes.MAX_HEADER_LIST_SIZE: _HEAD_LIMIT_BYTES,
            },
        )
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(_CONNECTION_WINDOW_BYTES - _FIRST_WINDOW_BYTES)
        self._flush()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._streams.clear()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        self._is_full = True
        self._choose_reading()  # what it asks has to wait until it reads

    def resume_writing(self) -> None:
        self._is_full = False
        self._choose_reading()
        self._pour_all()
        self._flush()

    def data_received(self, data: bytes) -> None:
        self._pieces.add(data)
        if not self._read_planned:
            self._read()

    def _read(self) -> None:
        """One piece a turn of the loop: whoever sends much does not keep the others waiting."""
        self._read_planned = False
        if self._transport is None or self._transport.is_closing():
            return
        piece = self._pieces.take()
        if piece is not None:
            self._hear_piece(piece)
        self._read_planned = bool(piece and self._pieces)
        if self._read_planned:
            self._loop.call_soon(self._read)
        self._choose_reading()

    def _choose_reading(self) -> None:
        """Take no more bytes while there are some left, or while the client does not read."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        wanted = not self._is_full and not self._read_planned
        if wanted and not transport.is_reading():
            transport.resume_reading()
        elif not wanted and transport.is_reading():
            transport.pause_reading()

    def _hear_piece(self, piece: bytes | Goodbye) -> None:
        try:
            if isinstance(piece, Goodbye):
                self._hear_goodbye(piece)
            else:
                self._hear_all(self._h2.receive_data(piece))
            if self._waste > _WASTE_LIMIT:
                log.info("closing an HTTP/2 connection that keeps the server busy for nothing")
                self._h2.close_connection(ErrorCodes.ENHANCE_YOUR_CALM)
                self._end()
        except ProtocolError as e:
            log.info("closing an HTTP/2 connection that breaks the protocol: %s", e)
            self._end()
        self._flush()

    def _hear_all(self, heard: list[events.Event]) -> None:
        over = {each.stream_id for each in heard if isinstance(each, events.StreamReset)}
        for id in over:  # first: for h2 they are over, whatever came before
            self._give_up(id)
        for event in heard:
            self._waste += _WASTE.get(type(event), 0)
            match event:
                case events.DataReceived():
                    self._take(event)
                case events.RequestReceived() if event.stream_id not in over:
                    self._begin(event.stream_id, event.headers)
                case events.StreamEnded() if event.stream_id not in over:
                    self._be_whole(event.stream_id)
                case events.RemoteSettingsChanged():
                    if self._h2.encoder.header_table_size > _TABLE_BYTES:
                        self._h2.encoder.header_table_size = _TABLE_BYTES
                    self._pour_all()
                case events.WindowUpdated():
                    self._pour_all()

    def _hear_goodbye(self, goodbye: Goodbye) -> None:
        """A client may say goodbye and wait for answers, as proxies do."""
        if goodbye.error_code != ErrorCodes.NO_ERROR:
            self._end()
        self.is_leaving = True

    def _give_up(self, id: int) -> None:
        """The client wants no answer any more."""
        self._forget(id)
        if id in self._drives:
            self._given_up[id] = self._loop.time()

    # ---- requests

    def _begin(self, id: int, fields: list[tuple[bytes, bytes]]) -> None:
        limit = self._settings.streams_per_connection_limit
        if not self._takes_more or max(len(self._streams), len(self._drives)) >= limit:
            self._h2.reset_stream(id, ErrorCodes.REFUSED_STREAM)  # the client may send it again
            self._waste += 1
            return
        stream = _Stream(fields, self._loop.time())
        self._streams[id] = stream
        self._newest_id = id
        if stream.announced_bytes > self._settings.request_size_limit_bytes:
            self._ask(id, stream)  # the answer does not wait for all that
        elif stream.headers.get("expect", "").lower() == "100-continue":
            self._h2.send_headers(id, [(b":status", b"100")])

    def _take(self, event: events.DataReceived) -> None:
        id, size = event.stream_id, event.flow_controlled_length
        self._h2.acknowledge_received_data(size, id)
        self._waste += size < _SMALL_BYTES and event.stream_ended is None
        stream = self._streams.get(id)
        if stream is None or stream.asked:
            return  # the rest of what is refused
        stream.add(event.data)
        self.half_bytes += len(event.data)
        limit_bytes = self._settings.request_size_limit_bytes
        if stream.size_bytes > limit_bytes:
            self._ask(id, stream)
        elif self.half_bytes > _HELD_LIMIT * limit_bytes:
            log.info("refused a request: too many large bodies come at once over one connection")
            self._forget(id)
            self._h2.reset_stream(id, ErrorCodes.REFUSED_STREAM)

    def _be_whole(self, id: int) -> None:
        stream = self._streams.get(id)
        if stream is not None:
            stream.has_end = True
            if stream.answered:
                self._forget(id)
            else:
                self._ask(id, stream)

    def _ask(self, id: int, stream: _Stream) -> None:
        if stream.asked:
            return
        stream.asked = True
        self.half_bytes -= stream.size_bytes
        request: HttpRequest = stream
        self._drives[id] = drive = Drive(self._answer(request), id, self._done)
        drive.go_on()

    def _forget(self, id: int) -> None:
        """It is answered, or nobody wants an answer any more."""
        stream = self._streams.pop(id, None)
        if stream is not None and not stream.asked:
            self.half_bytes -= stream.size_bytes
        self._idle_since_s = self._loop.time()
        self._look_around()

    def _look_around(self) -> None:
        if not self.active:
            self._has_answered()

    # ---- answers

    def _done(self, id: int, reply: Reply | None, error: BaseException | None) -> None:
        del self._drives[id]
        self._given_up.pop(id, None)
        self.served += 1
        stream = self._streams.get(id)
        if stream is not None and self._transport is not None:
            if reply is None:
                log.error("a request failed inside the gateway", exc_info=error)
                self._forget(id)
                self._h2.reset_stream(id, ErrorCodes.INTERNAL_ERROR)
            else:
                self._say(id, stream, reply)
            self._flush_soon()
        self._look_around()

    def _say(self, id: int, stream: _Stream, reply: Reply) -> None:
        body = b"" if stream.method == "HEAD" else reply.content
        self._h2.send_headers(id, reply.fields(), end_stream=not body)
        stream.rest = memoryview(body)
        self._pour(id, stream)

    def _pour_all(self) -> None:
        for id, stream in list(self._streams.items()):
            if stream.rest is not None:
                self._pour(id, stream)

    def _pour(self, id: int, stream: _Stream) -> None:
        """As much of an answer as its client takes now."""
        h2, rest = self._h2, stream.rest
        assert rest is not None
        while rest:
            window_bytes = min(h2.local_flow_control_window(id), h2.max_outbound_frame_size)
            if window_bytes <= 0 or self._is_full:
                stream.rest = rest
                return
            h2.send_data(id, rest[:window_bytes].tobytes(), end_stream=len(rest) <= window_bytes)
            rest = rest[window_bytes:]
            stream.since_s = self._loop.time()
            self._waste -= 2  # the client gives back two windows for it
            if rest:
                self._flush()  # a large answer: look whether the client reads it
        stream.rest = None
        if stream.has_end:
            self._forget(id)
        else:  # some clients read no answer while they send: let them send, for a while
            stream.answered = True

    def _flush_soon(self) -> None:
        """What one turn of the loop answers leaves as one block."""
        if not self._flush_planned:
            self._flush_planned = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_planned = False
        self._write(self._h2.data_to_send())
        if self.is_leaving and not self._streams:
            self._end()

    # ---- the end

    def _go_away(self) -> None:
        """New requests belong on another connection; those that are here have their answers."""
        if self._takes_more:
            self.is_leaving, self._takes_more = True, False
            # h2 knows only the hard way, after which it answers nobody
            self._write(GoAwayFrame(0, last_stream_id=self._newest_id).serialize())
        self._flush()

    def _end(self) -> None:
        self._streams.clear()
        self._write(self._h2.data_to_send())
        if self._transport is not None:
            self._transport.close()

    def _write(self, data: bytes) -> None:
        if data and self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    # ---- from the server

    @property
    def active(self) -> bool:
        return bool(self._drives) or any(s.rest is not None for s in self._streams.values())

    def sweep(self, now: float, settings: Ingress) -> None:
        if self._home.is_draining:
            self._go_away()
        self._waste = 0
        for id, since_s in list(self._given_up.items()):
            if now - since_s > GIVE_UP_S:
                del self._given_up[id]
                self._drives.pop(id).close()
        for id, stream in list(self._streams.items()):
            if _is_stuck(stream, now - stream.since_s, settings):
                log.info("resetting a request whose body does not end, or whose answer is not read")
                self._forget(id)
                self._h2.reset_stream(id, ErrorCodes.CANCEL)
        self._flush()
        timeout_ms = settings.idle_timeout_ms if self._newest_id else settings.header_timeout_ms
        if not self._streams and now - self._idle_since_s > timeout_ms / 1000:
            self._go_away()

    def close(self) -> None:
        self._go_away()

    async def shutdown(self, timeout_s: float) -> None:
        end_s = self._loop.time() + timeout_s
        self._go_away()
        await self._wait_for_answers(timeout_s)
        self.give_up()
        self._flush()
        self._end()
        await self._wait_until_gone(end_s - self._loop.time())

    def give_up(self) -> None:
        for drive in self._drives.values():
            drive.close()
        self._drives.clear()


def _is_stuck(stream: _Stream, elapsed_s: float, settings: Ingress) -> bool:
    if stream.rest is not None:
        return elapsed_s > settings.idle_timeout_ms / 1000
    is_slow = not stream.asked and stream.size_bytes < settings.body_rate_floor_bytes * elapsed_s
    return elapsed_s > _BODY_GRACE_S and (is_slow or stream.answered)
