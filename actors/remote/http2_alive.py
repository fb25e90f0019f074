"""When a connection speaks up to see whether its peer lives, and when it is let go for want of use.

Timers only; what follows is the connection's business.
"""

import asyncio
import random
from typing import Protocol

from perdure.actors.remote.http2_options import Http2Options


class Watched(Protocol):
    """The connection, as its timers see it."""

    @property
    def is_idle(self) -> bool:
        """There are no streams."""

    def ping(self) -> None:
        """Ask the peer for a sign of life."""

    def silent(self) -> None:
        """The peer has given none in time."""

    def unused(self) -> None:
        """There were no streams for the idle timeout."""


class Alive:
    """The timers of one connection."""

    def __init__(
        self, watched: Watched, options: Http2Options, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.heard = False  # set whenever bytes come: any of them are a sign of life
        self._watched = watched
        self._options = options
        self._loop = loop
        self._idle_since = 0.0
        self._ping_timer: asyncio.TimerHandle | None = None
        self._idle_timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._arm_ping()
        self.note_idle()

    def stop(self) -> None:
        for timer in (self._ping_timer, self._idle_timer):
            if timer is not None:
                timer.cancel()

    def note_idle(self) -> None:
        """The last stream has gone. One timer serves many such spells: it looks back when it fires."""
        self._idle_since = self._loop.time()
        if self._idle_timer is None:
            self._idle_timer = self._loop.call_later(self._options.idle_timeout_s, self._check_idle)

    def _arm_ping(self) -> None:
        options = self._options
        delay = options.ping_interval_s * (1 + random.random() * options.ping_jitter)
        self._ping_timer = self._loop.call_later(delay, self._ping)

    def _ping(self) -> None:
        self.heard = False
        self._watched.ping()
        self._ping_timer = self._loop.call_later(self._options.ping_timeout_s, self._after_ping)

    def _after_ping(self) -> None:
        if self.heard:
            self._arm_ping()
        else:
            self._watched.silent()

    def _check_idle(self) -> None:
        self._idle_timer = None
        if not self._watched.is_idle:
            return
        left = self._idle_since + self._options.idle_timeout_s - self._loop.time()
        if left > 0:
            self._idle_timer = self._loop.call_later(left, self._check_idle)
        else:
            self._watched.unused()
