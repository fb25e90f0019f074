"""One HTTP/2 connection to a deployment: frames, both flow-control windows, keep-alive, GOAWAY (RFC 9113).

h2 keeps the connection: settings, stream states, the windows towards the peer, and every rare frame. The two
frames that an exchange consists of, HEADERS and DATA, are cut and built here, since through h2 each costs
several times as much; h2's stream states are told about them. GOAWAY is read here too: h2 takes it for the
end of the connection, but the streams that it spares are to finish. Which connection a stream gets is the
pool's business.
"""

import asyncio
import struct
from typing import Protocol, cast

from h2.connection import ConnectionInputs
from h2.errors import ErrorCodes
from h2.events import (
    Event,
    RemoteSettingsChanged,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.exceptions import H2Error
from h2.settings import SettingCodes
from h2.stream import H2Stream, StreamInputs
from hpack import Encoder
from hpack.exceptions import HPACKError

from perdure.actors.remote.http2_alive import Alive
from perdure.actors.remote.http2_frames import (
    ACK,
    CONTINUATION,
    DATA,
    DEFAULT_WINDOW_BYTES,
    END_HEADERS,
    END_STREAM,
    FRAME_HEADER_BYTES,
    GOAWAY,
    HEADERS,
    MAX_FRAME_BYTES,
    MAX_STREAM_ID,
    PADDED,
    PING,
    PRIORITY,
    SETTINGS,
    code_name,
    new_h2,
    unpack_header,
)
from perdure.actors.remote.http2_headers import (
    Head,
    HeadDecoder,
    HeadEncoder,
    MalformedHead,
    parse_head,
)
from perdure.actors.remote.http2_options import Http2Options
from perdure.actors.remote.http2_sending import Outbox
from perdure.actors.remote.http2_stream import Http2Stream
from perdure.actors.remote.http2_windows import BrokenPeer, InboundWindows
from perdure.actors.remote.port import TransportFailed

_CLOSED_BEFORE_SWEEP = 64  # h2 forgets closed streams only when it counts the open ones


class Owner(Protocol):
    """The pool, as a connection sees it."""

    def freed(self, connection: "Http2Connection") -> None:
        """There may be room for further streams."""

    def lost(self, connection: "Http2Connection") -> None:
        """The socket is gone."""


class Http2Connection(asyncio.Protocol):
    """Many streams over one socket. All methods are called on the loop; none blocks."""

    def __init__(
        self,
        origin: str,
        encoder: HeadEncoder,
        owner: Owner,
        options: Http2Options,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.ready: asyncio.Future[None] = loop.create_future()  # the peer's settings are known
        self.gone: asyncio.Future[None] = loop.create_future()  # the socket is closed
        self.retiring = False  # no further streams
        self._origin = origin
        self._owner = owner
        self._options = options
        self._loop = loop
        self._live: dict[int, Http2Stream] = {}
        self._next_id = 1
        self.stream_limit = 0  # ours and the peer's, from ready on
        self._encoder = encoder
        self._decoder = HeadDecoder()
        self._h2 = new_h2(options)
        self._h2.encoder = cast(Encoder, encoder)  # h2 only tells it the table's size
        self._h2.decoder = self._decoder
        self._outbox = Outbox(self._h2, loop, lambda: self._owner.freed(self))
        self._rest = b""  # an incomplete frame
        self._in_head = False  # between HEADERS and its CONTINUATIONs: all goes to h2
        self._windows = InboundWindows(self._outbox, options)
        self._unswept_count = 0
        self.error: TransportFailed | None = None  # why it ended
        self._goaway = ""
        self._transport: asyncio.Transport | None = None
        self._alive = Alive(self, options, loop)
        self._cut_timer: asyncio.TimerHandle | None = None

    # ---- for the pool ------------------------------------------------------------------------

    @property
    def was_used(self) -> bool:
        """At least one stream has begun on it."""
        return self._next_id > 1

    @property
    def capacity(self) -> int:
        """How many streams may begin now; none while the peer does not take what was sent."""
        if self.retiring or self._outbox.is_stuck:
            return 0
        return self.stream_limit - len(self._live)

    def begin(self, stream: Http2Stream) -> None:
        """Send the head of ``stream``. Raises ``MalformedHead``; the connection is then unharmed."""
        block = self._encoder.encode(stream.request)
        h2 = self._h2
        stream.id = self._next_id
        self._next_id += 2
        if self._next_id > min(2 * self._options.max_requests, MAX_STREAM_ID):
            self.retiring = True
        peer = H2Stream(
            stream.id,
            h2.config,
            self._options.stream_window_bytes,
            h2.remote_settings.initial_window_size,
        )
        peer.max_outbound_frame_size = h2.max_outbound_frame_size
        peer.request_method = b"POST"
        peer.state_machine.process_input(StreamInputs.SEND_HEADERS)
        if stream.id == 1:
            h2.state_machine.process_input(ConnectionInputs.SEND_HEADERS)
        h2.streams[stream.id] = stream.peer = peer
        h2.highest_outbound_stream_id = stream.id
        stream.window = self._options.stream_window_bytes
        stream.home = self
        self._live[stream.id] = stream
        self._outbox.put_head(stream.id, block)
        if stream.out or stream.input_closed:
            self._outbox.queue(stream)

    def close(self) -> None:
        """Abort every stream, say GOAWAY, and let the socket go; ``gone`` tells when it is."""
        for stream in tuple(self._live.values()):
            stream.abort()
        self._shut(
            ErrorCodes.NO_ERROR, TransportFailed(f"{self._origin}: the transport was closed")
        )

    # ---- Home, for its streams -----------------------------------------------------------------

    def wrote(self, stream: Http2Stream) -> None:
        self._outbox.queue(stream)

    def dropped(self, stream: Http2Stream) -> None:
        if self._live.get(stream.id) is stream:
            self._reset(stream, ErrorCodes.CANCEL)
            self._retire(stream)

    def delivered(self, stream: Http2Stream, size: int) -> None:
        self._windows.held_size -= size
        if self.error is None:
            if stream.id in self._live:
                self._windows.credit(stream, size)
            self._windows.credit_connection()

    # ---- Watched, for its timers ----------------------------------------------------------------

    @property
    def is_idle(self) -> bool:
        return not self._live

    def ping(self) -> None:
        self._h2.ping(b"perdure?")
        self._outbox.take()

    def silent(self) -> None:
        span = self._options.ping_timeout_s
        why = f"the peer has not answered a PING for {span:g} seconds"
        self._shut(ErrorCodes.NO_ERROR, self._failure(why))
        if self._transport is not None:
            self._transport.abort()

    def unused(self) -> None:
        self._shut(ErrorCodes.NO_ERROR, self._failure("the connection was idle"))

    # ---- asyncio.Protocol ----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._outbox.connect(self._transport)
        self._h2.initiate_connection()
        extra = self._options.connection_window_bytes - DEFAULT_WINDOW_BYTES
        if extra > 0:
            self._h2.increment_flow_control_window(extra)
        self._outbox.take()

    def pause_writing(self) -> None:
        self._outbox.pause()

    def resume_writing(self) -> None:
        self._outbox.resume()

    def data_received(self, data: bytes) -> None:
        if self.error is not None:
            return
        self._alive.heard = True
        try:
            self._rest = self._read(self._rest + data if self._rest else data)
        except BrokenPeer as broken:
            self._broke(broken.code, broken.message)
        except HPACKError as error:
            self._broke(ErrorCodes.COMPRESSION_ERROR, f"undecodable header block: {error}")
        except H2Error as error:
            code = getattr(error, "error_code", ErrorCodes.PROTOCOL_ERROR)
            self._broke(code, f"{type(error).__name__}: {error}")

    def connection_lost(self, exc: Exception | None) -> None:
        if self._cut_timer is not None:
            self._cut_timer.cancel()
        self._outbox.disconnect()
        reason = f"lost: {exc}" if exc else "closed by the peer"
        self._end(TransportFailed(f"{self._origin}: the connection was {reason}"))
        if not self.gone.done():
            self.gone.set_result(None)
        self._owner.lost(self)

    # ---- reading -------------------------------------------------------------------------------

    def _read(self, data: bytes) -> bytes:
        """Take every complete frame; the bytes of an incomplete one are returned."""
        at, total = 0, len(data)
        while total - at >= FRAME_HEADER_BYTES:
            high, low, kind, flags, stream_id = unpack_header(data, at)
            begin = at + FRAME_HEADER_BYTES
            end = begin + (high << 8 | low)
            if end - begin > MAX_FRAME_BYTES:
                raise self._oversized(data, end - begin)
            if not self.ready.done() and kind != SETTINGS:
                raise BrokenPeer(ErrorCodes.PROTOCOL_ERROR, "the first frame is not SETTINGS")
            if end > total:
                break
            if kind == DATA and not self._in_head:
                self._on_data(stream_id & MAX_STREAM_ID, flags, data[begin:end])
            elif kind == HEADERS and not self._in_head and self._is_plain_head(flags, stream_id):
                stream = self._live[stream_id]
                self._on_head(stream, data[begin:end], flags & END_STREAM)
            elif kind == PING and not self._in_head:
                self._on_ping(stream_id, flags, data[begin:end])
            elif kind == GOAWAY and not self._in_head:
                self._on_goaway(stream_id, data[begin:end])
            elif kind <= CONTINUATION or self._in_head:
                self._to_h2(kind, flags, data[at:end])
            at = end
            if self.error is not None:  # a receiver or a frame has ended the connection
                return b""
        return data[at:] if at else data

    def _is_plain_head(self, flags: int, stream_id: int) -> bool:
        return flags & (END_HEADERS | PADDED | PRIORITY) == END_HEADERS and stream_id in self._live

    def _oversized(self, data: bytes, size: int) -> BrokenPeer:
        if not self.ready.done() and data.startswith(b"HTTP/1."):
            return BrokenPeer(
                ErrorCodes.HTTP_1_1_REQUIRED,
                "it speaks HTTP/1.1; register the deployment with use_http_11",
            )
        return BrokenPeer(
            ErrorCodes.FRAME_SIZE_ERROR,
            f"a frame of {size} bytes, where at most {MAX_FRAME_BYTES} are allowed",
        )

    def _to_h2(self, kind: int, flags: int, frame: bytes) -> None:
        if kind in (HEADERS, CONTINUATION):
            self._in_head = not flags & END_HEADERS
        events = self._h2.receive_data(frame)
        self._outbox.take()
        for event in events:
            self._on_event(event)

    def _on_event(self, event: Event) -> None:
        match event:
            case WindowUpdated(stream_id=0):
                self._outbox.wake()
            case WindowUpdated(stream_id=number):
                stream = self._live.get(number or 0)
                if stream is not None:
                    self._outbox.requeue(stream)
            case RemoteSettingsChanged():
                self._on_settings()
            case ResponseReceived(stream_id=number, headers=headers):
                stream = self._live.get(number or 0)
                if stream is not None:
                    self._take_head(stream, headers)
            case StreamEnded(stream_id=number):
                stream = self._live.get(number or 0)
                if stream is not None:
                    self._complete(stream)
            case StreamReset(stream_id=number, error_code=code, remote_reset=by_peer):
                stream = self._live.get(number or 0)
                if stream is not None:
                    who = "the peer reset the stream" if by_peer else "the stream was reset"
                    self._retire(stream)
                    stream.fail(self._failure(f"{who} with {code_name(code)}"))

    def _on_settings(self) -> None:
        allowed = self._h2.remote_settings.get(SettingCodes.MAX_CONCURRENT_STREAMS, MAX_STREAM_ID)
        self.stream_limit = min(self._options.max_streams, allowed)
        for stream in self._live.values():  # the initial window may have grown
            self._outbox.requeue(stream)
        if not self.ready.done():
            self.ready.set_result(None)
            self._alive.start()
        self._owner.freed(self)

    def _on_head(self, stream: Http2Stream, block: bytes, ended: int) -> None:
        try:
            head = self._decoder.head(block)
        except MalformedHead as error:
            return self._refuse(stream, str(error))
        move = stream.peer.state_machine.process_input
        if 100 <= head.status < 200:
            if ended or stream.head is not None:
                return self._refuse(stream, "an informational head where none may be")
            move(StreamInputs.RECV_INFORMATIONAL_HEADERS)
            return None
        move(StreamInputs.RECV_HEADERS)
        if (head.status == 0) != (stream.head is not None) or (not head.status and not ended):
            return self._refuse(stream, "a head where none may be")
        if head.status:
            stream.head = head
            stream.left = head.content_length
            stream.deliver_head(head)
        if ended and not stream.over:
            move(StreamInputs.RECV_END_STREAM)
            self._complete(stream)
        return None

    def _take_head(self, stream: Http2Stream, fields: object) -> None:
        """A response head that h2 has read and checked."""
        try:
            head: Head = parse_head(fields)
        except MalformedHead as error:
            return self._refuse(stream, str(error))
        stream.head = head
        stream.left = head.content_length
        return stream.deliver_head(head)

    def _on_data(self, stream_id: int, flags: int, payload: bytes) -> None:
        size = len(payload)
        self._windows.receive(size)
        if flags & PADDED:
            if not payload or payload[0] >= size:
                raise BrokenPeer(ErrorCodes.PROTOCOL_ERROR, "padding longer than its frame")
            payload = payload[1 : size - payload[0]]
        stream = self._live.get(stream_id)
        if stream is None:  # reset by us while this was on its way
            if stream_id & 1 == 0 or stream_id >= self._next_id:
                raise BrokenPeer(ErrorCodes.PROTOCOL_ERROR, f"data on idle stream {stream_id}")
            self._windows.credit_connection()
            return
        if stream.head is None:
            return self._refuse(stream, "data before the response's head")
        if not self._windows.receive_on(stream, size):
            why = "more data than the stream's window"
            return self._refuse(stream, why, ErrorCodes.FLOW_CONTROL_ERROR)
        if stream.left is not None:
            stream.left -= len(payload)
            if stream.left < 0:
                return self._refuse(stream, "a body longer than its content-length")
        credit = size
        if payload and not stream.deliver(payload):
            credit -= len(payload)
            self._windows.held_size += len(payload)
        if not flags & END_STREAM:
            if credit and not stream.over:
                self._windows.credit(stream, credit)
            self._windows.credit_connection()
            return
        self._windows.credit_connection()
        if not stream.over:
            stream.peer.state_machine.process_input(StreamInputs.RECV_END_STREAM)
            self._complete(stream)

    def _on_ping(self, stream_id: int, flags: int, payload: bytes) -> None:
        if stream_id or len(payload) != 8:
            raise BrokenPeer(ErrorCodes.PROTOCOL_ERROR, "a malformed PING")
        if not flags & ACK:
            self._outbox.put_ping_answer(payload)

    def _on_goaway(self, stream_id: int, payload: bytes) -> None:
        if stream_id or len(payload) < 8:
            raise BrokenPeer(ErrorCodes.PROTOCOL_ERROR, "a malformed GOAWAY")
        last, code = struct.unpack_from(">LL", payload)
        last &= MAX_STREAM_ID
        self.retiring = True
        text = payload[8:200].decode("utf-8", "replace")
        self._goaway = f"the peer said GOAWAY ({code_name(code)}{': ' if text else ''}{text})"
        for stream in [each for each in self._live.values() if each.id > last]:
            self._retire(stream)
            stream.fail(self._failure(f"{self._goaway} before it began the stream"))
        self._owner.freed(self)  # what waits needs another connection
        self._leave_if_done()

    # ---- ends ----------------------------------------------------------------------------------

    def _complete(self, stream: Http2Stream) -> None:
        """The peer has ended the response."""
        if stream.left:
            return self._fail_stream(
                stream, f"the body ended {stream.left} bytes before its content-length"
            )
        self._outbox.finish(stream)
        self._retire(stream)
        stream.end()
        return None

    def _refuse(
        self, stream: Http2Stream, why: str, code: ErrorCodes = ErrorCodes.PROTOCOL_ERROR
    ) -> None:
        self._reset(stream, code)
        self._retire(stream)
        stream.fail(self._failure(f"the peer broke HTTP/2: {why}"))

    def _reset(self, stream: Http2Stream, code: ErrorCodes) -> None:
        self._h2.reset_stream(stream.id, code)
        self._outbox.take()

    def _retire(self, stream: Http2Stream) -> None:
        del self._live[stream.id]
        self._unswept_count += 1
        if self._unswept_count >= _CLOSED_BEFORE_SWEEP:
            self._unswept_count = 0
            _ = self._h2.open_outbound_streams  # forgets the closed ones while it counts
        if not self._live:
            self._alive.note_idle()
            self._leave_if_done()
        self._owner.freed(self)

    def _fail_stream(self, stream: Http2Stream, why: str) -> None:
        self._outbox.finish(stream)
        self._retire(stream)
        stream.fail(self._failure(f"the peer broke HTTP/2: {why}"))

    def _failure(self, why: str) -> TransportFailed:
        return TransportFailed(f"{self._origin}: {why}")

    def _broke(self, code: ErrorCodes, message: str) -> None:
        self._shut(code, self._failure(f"the peer broke HTTP/2: {message}"))

    def _leave_if_done(self) -> None:
        if self.retiring and not self._live:
            self._shut(ErrorCodes.NO_ERROR, self._failure(self._goaway or "the connection retired"))

    def _shut(self, code: ErrorCodes, error: TransportFailed) -> None:
        """GOAWAY, then the socket; what does not leave within the close timeout is cut off."""
        if self.error is not None:
            return
        self.error = error
        transport = self._transport
        if transport is not None and not transport.is_closing():
            self._outbox.say_goodbye(code)
            transport.close()
            self._cut_timer = self._loop.call_later(self._options.close_timeout_s, transport.abort)
        self._end(error)

    def _end(self, error: TransportFailed) -> None:
        """Every stream fails with ``error``, or with the reason that came before."""
        self.retiring = True
        self._alive.stop()
        if self.error is None:
            self.error = self._failure(f"{self._goaway}, then closed") if self._goaway else error
        if not self.ready.done():
            self.ready.set_exception(self.error)
            self.ready.exception()  # seen, also where nobody waits any more
        streams = tuple(self._live.values())
        self._live.clear()
        for stream in streams:
            stream.fail(self.error)
