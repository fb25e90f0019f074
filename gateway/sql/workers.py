"""The processes that carry out queries: started when one is wanted, reused, ended when they idle or overrun.

They are of lower priority than the server, and hold neither its store nor its memory.
"""

import asyncio
import contextlib
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from typing import Final, assert_never

import msgspec

from perdure.gateway.deployments import Registrar
from perdure.gateway.inspected import inspection_of
from perdure.gateway.operator_book import OperatorBook
from perdure.gateway.settings import Settings
from perdure.gateway.sql.failures import QueryRefused
from perdure.gateway.sql.messages import (
    LENGTH,
    Chunk,
    End,
    Fetch,
    FromWorker,
    Live,
    Query,
    Refused,
    Scan,
    ToWorker,
    decode_from_worker,
    frame,
)
from perdure.gateway.sql.reading import Reading
from perdure.journal.requests import Runtime

_MODULE: Final = "perdure.gateway.sql.worker"
_IDLE_S: Final = 60.0
_EAGER_S: Final = 0.5  # a query that reads for longer makes way for calls
_PAUSES: Final = 1  # seconds for each one of reading


class QueryOptions(msgspec.Struct, frozen=True, kw_only=True):
    """``memory_bytes``: of one query. ``waiting_limit``: queries that may wait for a worker."""

    timeout_s: float = 60.0
    memory_bytes: int = 256 << 20
    worker_limit: int = 2
    waiting_limit: int = 32


class _Worker:
    """One process. After anything but a complete answer it has to be ended."""

    def __init__(self, process: Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.process = process
        self._to, self._from = process.stdin, process.stdout
        self.retirement: asyncio.TimerHandle | None = None

    async def say(self, message: ToWorker) -> None:
        self._to.write(frame(message))
        await self._to.drain()

    async def next(self) -> FromWorker:
        """Raises IncompleteReadError or ConnectionError where the process is gone."""
        head = await self._from.readexactly(LENGTH.size)
        message: FromWorker = decode_from_worker(
            await self._from.readexactly(LENGTH.unpack(head)[0])
        )
        return message

    async def end(self) -> None:
        if self.retirement is not None:
            self.retirement.cancel()
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()
        self._to.close()


class Workers:
    """All queries of a server go through one of these. Used on one loop."""

    def __init__(self, reading: Reading, options: QueryOptions) -> None:
        self._reading = reading
        self._options = options
        self._free = asyncio.Semaphore(options.worker_limit)
        self._waiting = 0
        self._idle: list[_Worker] = []
        self._ending: set[asyncio.Task[None]] = set()

    async def run(self, sql: str, as_json: bool) -> AsyncIterator[bytes]:
        """The body of the answer, in pieces; close it when it is left early.

        Raises QueryRefused and StoreError, also in the middle.
        """
        if self._waiting >= self._options.waiting_limit:
            raise QueryRefused(429, "Rate limited")
        try:
            async with asyncio.timeout(self._options.timeout_s):
                self._waiting += 1
                try:
                    await self._free.acquire()
                finally:
                    self._waiting -= 1
                try:
                    async for chunk in self._run(sql, as_json):
                        yield chunk
                finally:
                    self._free.release()
        except TimeoutError as e:
            raise QueryRefused(
                504,
                f"the query was ended after {self._options.timeout_s:g} seconds "
                "('admin.query_timeout'); ask for less, or look for a condition on id, service or key",
            ) from e

    async def _run(self, sql: str, as_json: bool) -> AsyncIterator[bytes]:
        await self._reading.begin()
        worker = self._idle.pop() if self._idle else _Worker(await self._start())
        if worker.retirement is not None:
            worker.retirement.cancel()
        done = False
        try:
            await worker.say(Query(sql, as_json, self._options.memory_bytes))
            async for chunk in self._converse(worker):
                yield chunk
            done = True
        except QueryRefused:
            done = True
            raise
        except (asyncio.IncompleteReadError, ConnectionError) as e:
            raise QueryRefused(500, await self._explain(worker)) from e
        finally:
            if done:
                self._keep(worker)
            else:
                self._end_soon(worker)

    async def _converse(self, worker: _Worker) -> AsyncIterator[bytes]:
        now_s = asyncio.get_running_loop().time
        reading_s = 0.0
        while True:
            message = await worker.next()
            match message:
                case Chunk(data=data):
                    yield data
                case End():
                    return
                case Refused(status=status, message=text):
                    raise QueryRefused(status, text)
                case Scan() | Fetch() | Live():
                    begin_s = now_s()
                    rows = await self._reading.answer(message)
                    spent_s = now_s() - begin_s
                    reading_s += spent_s
                    if reading_s > _EAGER_S:  # the busier the server, the longer the pauses
                        await asyncio.sleep(_PAUSES * spent_s)
                    await worker.say(rows)
                case _:
                    assert_never(message)

    async def _explain(self, worker: _Worker) -> str:
        status = await worker.process.wait()
        return (
            f"the query's process ended (status {status}), most likely since it took more memory than "
            f"{self._options.memory_bytes} bytes ('admin.query_memory_limit'); ask for fewer rows or columns"
        )

    async def _start(self) -> Process:
        """With the server's own import path, and out of reach of the terminal's Ctrl-C."""
        path = os.pathsep.join(each for each in sys.path if each)
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", _MODULE, str(self._options.memory_bytes)),
            stdin=PIPE,
            stdout=PIPE,
            env=os.environ | {"PYTHONPATH": path},
            start_new_session=True,
        )

    def _keep(self, worker: _Worker) -> None:
        self._idle.append(worker)
        loop = asyncio.get_running_loop()
        worker.retirement = loop.call_later(_IDLE_S, self._retire, worker)

    def _retire(self, worker: _Worker) -> None:
        if worker in self._idle:
            self._idle.remove(worker)
            self._end_soon(worker)

    def _end_soon(self, worker: _Worker) -> None:
        task = asyncio.get_running_loop().create_task(worker.end())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def close(self) -> None:
        """End the idle ones; what is still asked for ends with its request."""
        while self._idle:
            self._end_soon(self._idle.pop())
        if self._ending:
            await asyncio.wait(self._ending)


def workers_of(
    runtime: Runtime,
    settings: Settings,
    registrar: Registrar | None,
    book: OperatorBook | None,
) -> Workers | None:
    """None where ``runtime`` cannot be looked into."""
    inspection = inspection_of(runtime)
    if inspection is None:
        return None
    options = QueryOptions(
        timeout_s=settings.admin.query_timeout_ms / 1000,
        memory_bytes=settings.admin.query_memory_limit_bytes,
    )
    return Workers(Reading(inspection, runtime, registrar, book), options)
