"""A Thespian process actor whose work is an asyncio program (uvloop) in a thread of its own.

Thespian's thread sleeps in select: it tells the parent that we live, and is told to end. The loop's
thread does the work. Any error that nobody handles ends the process.
"""

import asyncio
import os
import sys
import threading
from collections.abc import Coroutine
from typing import Any

import uvloop
from thespian.actors import Actor, ActorExitRequest

from perdure.actors.processes import hygiene, inherited


class LoopActor(Actor):  # type: ignore[misc]
    """Override ``main``, which is started with the process, and ``stopping``; both run on the loop."""

    def __init__(self) -> None:
        hygiene.die_with_parent()
        inherited.restore_logging()
        inherited.close_supervisors()
        self._tasks: set[asyncio.Task[None]] = set()
        self.loop = uvloop.new_event_loop()
        threading.Thread(target=self._run_loop, name="loop", daemon=True).start()

    async def main(self) -> None:
        """The work; it may return while other tasks go on."""

    async def stopping(self) -> None:
        """The process ends when this returns."""

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """As a task that nobody waits for, and that must not fail; on the loop's thread."""
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    async def end(self) -> None:
        """Stop in order, then end at once: no thread of a user's may keep the process."""
        await self.stopping()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)

    @hygiene.crash_on_error
    def receiveMessage(self, message: Any, sender: Any) -> None:
        """On Thespian's thread."""
        if isinstance(message, ActorExitRequest):
            asyncio.run_coroutine_threadsafe(self.end(), self.loop).result()

    def _run_loop(self) -> None:
        try:
            asyncio.set_event_loop(self.loop)
            self.loop.call_soon(lambda: self.run(self.main()))
            self.loop.run_forever()
        except BaseException as error:
            hygiene.crash(error)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            error = task.exception()
            if error is not None:
                hygiene.crash(error)
