"""What can be set about HTTP/2 towards deployments. Values only; conf/perdure.toml explains them to users.

The defaults are those of the reference server: service protocol 2.4.
"""

import msgspec

MIB = 1024 * 1024


class Http2Options(msgspec.Struct, frozen=True):
    """Spans are seconds, since the loop's timers take seconds; sizes are bytes."""

    connect_timeout_s: float = 10.0  # all addresses, TLS and the peer's first SETTINGS together
    ping_interval_s: float = 40.0
    ping_jitter: float = 0.2  # up to this share is added to each interval
    ping_timeout_s: float = 20.0
    idle_timeout_s: float = 300.0  # a connection without streams is let go
    close_timeout_s: float = 1.0  # for the last bytes to leave; then the socket is cut
    max_connections: int = 8  # to one origin
    max_streams: int = 128  # on one connection; the peer may allow fewer
    # On one connection altogether. Common servers close theirs after 1,000, and break what has just begun.
    max_requests: int = 900
    stream_window_bytes: int = 2 * MIB
    connection_window_bytes: int = 5 * MIB
    # What paused streams of one connection hold beyond this is held against the connection as a whole,
    # so memory stays below this and one connection window.
    held_limit_bytes: int = 64 * MIB
