"""The lifespan of an ASGI app: started once before its first exchange, shut down at the end.

An app that has none (it raises, or returns) is served all the same, as the ASGI specification says.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

from perdure.actors.remote.port import TransportFailed

log = logging.getLogger("perdure.asgi")

Scope = dict[str, Any]
AsgiReceive = Callable[[], Awaitable[dict[str, Any]]]
AsgiSend = Callable[[dict[str, Any]], Awaitable[None]]
AsgiApp = Callable[[Scope, AsgiReceive, AsgiSend], Awaitable[None]]

SHUTDOWN_TIMEOUT_S: Final = 5.0


class Lifespan:
    """``state`` is what the app left for its exchanges, None where it has no lifespan."""

    def __init__(self, app: AsgiApp) -> None:
        self._app = app
        self._run: _Run | None = None
        self.is_started = False
        self.state: dict[str, Any] | None = None

    async def startup(self) -> None:
        """Waits for the app; callers at once share it. Raises TransportFailed; the next call tries again."""
        run = self._run
        if run is None:
            run = self._run = _Run(self._app)
        await asyncio.shield(run.started)
        if run.failure is not None:
            if self._run is run:
                self._run = None
            raise TransportFailed(f"the app's lifespan.startup failed: {run.failure}")
        self.state = run.state if run.is_supported else None
        self.is_started = True

    async def shutdown(self) -> None:
        run, self._run = self._run, None
        if run is not None:
            await run.stop()


class _Run:
    """The task in which the app's lifespan lives."""

    def __init__(self, app: AsgiApp) -> None:
        self._app = app
        self.state: dict[str, Any] = {}
        self.started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.is_supported = False
        self.failure: str | None = None
        self._stopping = asyncio.Event()
        self._is_startup_told = False
        self._task = asyncio.create_task(self._live())

    async def stop(self) -> None:
        self._stopping.set()
        if not self.started.done():
            self._task.cancel()  # it has nothing to shut down yet
        _, late = await asyncio.wait([self._task], timeout=SHUTDOWN_TIMEOUT_S)
        if late:
            log.warning(
                "an app's lifespan.shutdown takes over %.0f s; cancelled", SHUTDOWN_TIMEOUT_S
            )
            self._task.cancel()
            await asyncio.wait([self._task], timeout=SHUTDOWN_TIMEOUT_S)

    async def _live(self) -> None:
        scope = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": self.state,
        }
        try:
            await self._app(scope, self._receive, self._send)
        except (Exception, SystemExit) as error:
            if self.is_supported:
                log.exception("an app failed in its lifespan")
            else:
                log.debug("an app has no lifespan: %r", error)
        finally:
            self._settle()

    async def _receive(self) -> dict[str, Any]:
        if not self._is_startup_told:
            self._is_startup_told = True
            return {"type": "lifespan.startup"}
        await self._stopping.wait()
        return {"type": "lifespan.shutdown"}

    async def _send(self, message: dict[str, Any]) -> None:
        match message["type"]:
            case "lifespan.startup.complete":
                self.is_supported = True
                self._settle()
            case "lifespan.startup.failed":
                self.failure = message.get("message") or "no reason given"
                self._settle()
            case "lifespan.shutdown.failed":
                log.error("an app's lifespan.shutdown failed: %s", message.get("message", ""))
            case "lifespan.shutdown.complete":
                return
            case other:
                raise RuntimeError(f"expected a lifespan message, the app sent {other}")

    def _settle(self) -> None:
        if not self.started.done():
            self.started.set_result(None)
