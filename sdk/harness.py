"""The test harness of the official SDK, without Docker: same names, parameters and use.

    async with perdure.create_test_harness(app) as env:
        assert await env.client.object_call(add, key="ada", arg=2) == 2

The engine runs in this process with its store in memory, on a thread and loop of its own, so that a
test may also block; ingress and admin API listen on free ports. Time is real: `perdure.testing` has a
virtual clock and crashes, and needs no ports.
"""

import asyncio
import logging
import os
import threading
from collections.abc import AsyncIterator
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Literal

from perdure.client import create_client
from perdure.embedded import Services, System
from perdure.entry_codec import JournalValueCodec
from perdure.journal.schema import Defaults, OnMaxAttempts, RetryPolicy
from perdure.types import HarnessEnvironment

if TYPE_CHECKING:
    import httpx

    from perdure.journal.store import Store

_IMAGE = "docker.io/restatedev/restate:latest"  # accepted, so that programs move; means nothing
_TEN_MINUTES_MS = 600_000
_SHUTDOWN_MS = 500  # for requests that are still waiting when a test ends
_FREE_PORT = "127.0.0.1:0"


@dataclass
class TestConfiguration:
    """Settings of a harness. ``restate_image`` means nothing; ``stream_logs`` copies the log to stderr."""

    __test__ = False  # it is not a test case itself

    restate_image: str = _IMAGE
    stream_logs: bool = False
    always_replay: bool = False
    disable_retries: bool = False

    def defaults(self) -> Defaults:
        """Inactive attempts are kept long, or not at all; a failed attempt is the last, or is retried."""
        retry = RetryPolicy()
        if self.disable_retries:
            retry = RetryPolicy(max_attempts=1, on_max_attempts=OnMaxAttempts.KILL)
        return Defaults(
            inactivity_timeout_ms=0 if self.always_replay else _TEN_MINUTES_MS,
            abort_timeout_ms=_TEN_MINUTES_MS,
            retry=retry,
        )


class RestateTestHarness:
    """Services under test, served on free ports between ``start`` and ``stop``; or a ``with`` block."""

    def __init__(self, asgi_app: Services, config: TestConfiguration | None = None) -> None:
        self.asgi_app = asgi_app
        self.config = config or TestConfiguration()
        self._served: _Served | None = None
        self._following: logging.Handler | None = None

    def start(self) -> None:
        """Serve. Raises what is wrong with the services."""
        served = _Served(self.asgi_app, self.config.defaults())
        served.start()
        self._served = served
        if self.config.stream_logs:
            self._following = logging.StreamHandler()
            logging.getLogger("perdure").addHandler(self._following)

    def stop(self) -> None:
        """Stop serving; everything that was stored is gone."""
        served, self._served = self._served, None
        if served is not None:
            served.stop()
        if self._following is not None:
            logging.getLogger("perdure").removeHandler(self._following)
            self._following = None

    @property
    def ingress_url(self) -> str:
        return self._urls()[0]

    @property
    def admin_api_url(self) -> str:
        return self._urls()[1]

    def ingress_client(self) -> "httpx.Client":
        """A blocking HTTP client of the ingress; close it yourself."""
        import httpx

        return httpx.Client(base_url=self.ingress_url)

    def _urls(self) -> tuple[str, str]:
        if self._served is None:
            raise AssertionError("the harness is not started: call .start(), or use it with `with`")
        return self._served.urls

    def __enter__(self) -> "RestateTestHarness":
        self.start()
        return self

    def __exit__(self, *_: object) -> Literal[False]:
        self.stop()
        return False


class _Served:
    """The engine and both servers, on a thread of their own."""

    def __init__(self, services: Services, defaults: Defaults) -> None:
        self._services = services
        self._defaults = defaults
        self._ready: Future[tuple[str, str]] = Future()
        self._thread = threading.Thread(target=self._run, name="perdure-harness", daemon=True)
        self._loop: asyncio.AbstractEventLoop
        self._stopping: asyncio.Event

    def start(self) -> None:
        self._thread.start()
        self.urls = self._ready.result()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as e:
            if self._ready.done():
                raise
            self._ready.set_exception(e)

    async def _serve(self) -> None:
        from perdure.gateway import server
        from perdure.gateway.settings import Admin, Engine, Ingress, Settings

        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        settings = Settings(
            ingress=Ingress(bind=_FREE_PORT),
            admin=Admin(bind=_FREE_PORT),
            engine=Engine(shutdown_timeout_ms=_SHUTDOWN_MS),
        )
        system = System(self._services, open_store=_open_memory, defaults=self._defaults)
        await system.start()
        try:
            gateway = await server.start(system.engine, settings)
            self._ready.set_result((gateway.ingress_url.rstrip("/"), gateway.admin_url.rstrip("/")))
            try:
                await self._stopping.wait()
            finally:
                await gateway.stop()
        finally:
            await system.stop()


async def _open_memory() -> "Store":
    from perdure.journal.store import MemoryStore

    return MemoryStore(Random(os.urandom(8)))


def test_harness(
    app: Services,
    follow_logs: bool = False,
    restate_image: str = _IMAGE,
    always_replay: bool = False,
    disable_retries: bool = False,
) -> RestateTestHarness:
    """A harness for blocking tests: ``with test_harness(app) as harness: harness.ingress_client()``.

    The parameters are those of ``create_test_harness``.
    """
    config = TestConfiguration(
        restate_image=restate_image,
        stream_logs=follow_logs,
        always_replay=always_replay,
        disable_retries=disable_retries,
    )
    return RestateTestHarness(app, config)


setattr(test_harness, "__test__", False)  # noqa: B010 - so that pytest doesn't take it for a test


@asynccontextmanager
async def create_test_harness(
    app: Services,
    follow_logs: bool = False,
    restate_image: str = _IMAGE,
    always_replay: bool = False,
    disable_retries: bool = False,
    journal_value_codec: JournalValueCodec | None = None,
) -> AsyncIterator[HarnessEnvironment]:
    """Serve ``app`` (or services) for the length of the block: its URLs, and a client over HTTP.

    - ``follow_logs``: copy Perdure's log to stderr
    - ``restate_image``: accepted and ignored, there is no container
    - ``always_replay``: every await suspends and comes back by replay, which finds code that is not
      deterministic
    - ``disable_retries``: the first failed attempt ends the invocation with its error
    - ``journal_value_codec``: for the client, where the app has the same one
    """
    harness = test_harness(app, follow_logs, restate_image, always_replay, disable_retries)
    await asyncio.to_thread(harness.start)
    try:
        async with create_client(
            harness.ingress_url, journal_value_codec=journal_value_codec
        ) as client:
            yield HarnessEnvironment(harness.ingress_url, harness.admin_api_url, client)
    finally:
        await asyncio.to_thread(harness.stop)


__all__ = ["RestateTestHarness", "TestConfiguration", "create_test_harness", "test_harness"]
