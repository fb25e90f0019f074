"""A real engine behind a real gateway, on a loop of its own thread, for commands that block theirs."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from click.testing import CliRunner, Result

from perdure.actors.counts import Observer
from perdure.embedded import Services, System, leveldb_opener
from perdure.gateway import server
from perdure.gateway.cli import main
from tests.gateway.serving import settings

T = TypeVar("T")


class Real(msgspec.Struct):
    """``system`` belongs to another thread: use ``on_loop``."""

    system: System
    ingress_url: str
    admin_url: str
    loop: asyncio.AbstractEventLoop

    def on_loop(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(30)

    def run(self, *arguments: str, **rest: Any) -> Result:
        """A command against this server."""
        env = {"PERDURE_INGRESS_URL": self.ingress_url, "PERDURE_ADMIN_URL": self.admin_url}
        return CliRunner().invoke(main, arguments, env=env, **rest)

    def await_status(self, invocation_id: str, status: str) -> None:
        """Until the invocation is there."""

        async def wait() -> None:
            while True:
                info = await self.system.invocation(invocation_id)
                if info is not None and info.status == status:
                    return
                await asyncio.sleep(0.01)

        self.on_loop(asyncio.wait_for(wait(), 20))


@contextmanager
def real(
    services: Services,
    data: Path,
    *,
    observer: Observer | None = None,
    on_enter: Callable[[str], None] | None = None,
) -> Iterator[Real]:
    """Serve ``services`` on the store in ``data`` and on free ports."""
    ready: list[Real] = []
    is_ready, stop = threading.Event(), asyncio.Event()
    errors: list[BaseException] = []

    async def serve() -> None:
        system = System(services, open_store=leveldb_opener(data))
        system.observer, system.on_enter = observer, on_enter
        await system.start()
        try:
            gateway = await server.start(system.engine, settings())
            loop = asyncio.get_running_loop()
            ready.append(Real(system, gateway.ingress_url, gateway.admin_url, loop))
            is_ready.set()
            await stop.wait()
            await gateway.stop()
        finally:
            await system.stop()

    def in_thread() -> None:
        try:
            asyncio.run(serve())
        except BaseException as e:
            errors.append(e)
            raise
        finally:
            is_ready.set()

    thread = threading.Thread(target=in_thread)
    thread.start()
    is_ready.wait()
    assert not errors, errors
    try:
        yield ready[0]
    finally:
        ready[0].loop.call_soon_threadsafe(stop.set)
        thread.join()
