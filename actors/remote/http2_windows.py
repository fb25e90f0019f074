"""What the peer may still send, on each stream and on the connection, and when room is given back to it.

A stream's window is given back as its data reaches the receiver, so a paused stream holds its peer back. The
connection's window is given back at once, for else one paused stream would starve its neighbours; only
beyond a limit does what paused streams hold count against the connection. h2 holds the other direction.
"""

from h2.errors import ErrorCodes

from perdure.actors.remote.http2_options import Http2Options
from perdure.actors.remote.http2_sending import Outbox
from perdure.actors.remote.http2_stream import Http2Stream


class BrokenPeer(Exception):
    """The peer broke HTTP/2 in a way that ends the connection."""

    def __init__(self, code: ErrorCodes, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message


class InboundWindows:
    """Counts bytes of DATA frames, padding included (RFC 9113 6.9.1)."""

    def __init__(self, outbox: Outbox, options: Http2Options) -> None:
        self.held_size = 0  # in paused streams
        self._outbox = outbox
        self._room = options.connection_window_bytes
        self._due = 0  # received, and not yet given back
        self._connection_step = (options.connection_window_bytes + 1) // 2
        self._stream_step = (options.stream_window_bytes + 1) // 2
        self._held_limit = options.held_limit_bytes

    def receive(self, size: int) -> None:
        """Raises ``BrokenPeer`` where the peer had no room for it."""
        self._room -= size
        self._due += size
        if self._room < 0:
            raise BrokenPeer(
                ErrorCodes.FLOW_CONTROL_ERROR, "more data than the connection's window"
            )

    def receive_on(self, stream: Http2Stream, size: int) -> bool:
        """Whether the stream had room for it."""
        stream.window -= size
        return stream.window >= 0

    def credit(self, stream: Http2Stream, size: int) -> None:
        """``size`` bytes have been delivered; give them back in few steps."""
        stream.credit_due += size
        due = stream.credit_due
        if due >= self._stream_step:
            stream.credit_due = 0
            stream.window += due
            self._outbox.put_window_update(stream.id, due)

    def credit_connection(self) -> None:
        """Give back what was received, as far as what is held allows."""
        due = self._due
        if due >= self._connection_step:
            due -= max(0, self.held_size - self._held_limit)
            if due >= self._connection_step:
                self._due -= due
                self._room += due
                self._outbox.put_window_update(0, due)
