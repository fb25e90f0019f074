"""The process that carries out queries: reads them from its pipe, writes the answers, asks for rows.

Run as ``python -m perdure.gateway.sql.worker``. Once it is ready it can open no file and no socket, write
no file and take no more memory than it is told; the server ends it when a query takes too long.
"""

import os
import queue
import resource
import sys
import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from perdure.gateway.sql.engine import answer
from perdure.gateway.sql.failures import QueryRefused
from perdure.gateway.sql.messages import (
    LENGTH,
    Chunk,
    End,
    Fetch,
    FromWorker,
    Live,
    Query,
    Question,
    Refused,
    Rows,
    Scan,
    ToWorker,
    decode_to_worker,
    frame,
)
from perdure.gateway.sql.source import Facts, Row

_FIRST_ROWS, _MOST_ROWS = 64, 8192
_PART_BYTES: Final = 1 << 20  # what one part of a scan should take
_WARM_UP_BYTES: Final = 16 << 20
_SPARE_BYTES: Final = 512 << 20  # Python's objects on their way to a table, thread stacks
_NICENESS: Final = 10
_DATA_FIELD: Final = 5  # of statm: data and stacks, in pages


class _Ticket:
    """A question that was asked, and its answer."""

    __slots__ = ("rows",)

    def __init__(self) -> None:
        self.rows: Rows | None = None


class Pipe:
    """Both directions. A thread reads, so that the server's end is noticed whatever goes on here."""

    def __init__(self, source: BinaryIO, sink: BinaryIO) -> None:
        self._source = source
        self._sink = sink
        self._came: queue.SimpleQueue[ToWorker] = queue.SimpleQueue()
        self._asked: deque[_Ticket] = deque()
        threading.Thread(target=self._read, daemon=True).start()

    def next(self) -> ToWorker:
        return self._came.get()

    def say(self, message: FromWorker) -> None:
        try:
            self._sink.write(frame(message))
            self._sink.flush()
        except BrokenPipeError:
            os._exit(0)

    def ask(self, question: Question) -> "_Ticket":
        """The answer comes while other work goes on; ``collect`` it."""
        ticket = _Ticket()
        self._asked.append(ticket)
        self.say(question)
        return ticket

    def collect(self, ticket: "_Ticket") -> Rows:
        """Answers come in the order of the questions."""
        while ticket.rows is None:
            answered = self.next()
            assert isinstance(answered, Rows), (
                "no query comes before all that was asked is answered"
            )
            self._asked.popleft().rows = answered
        return ticket.rows

    def settle(self) -> None:
        """Wait for answers that nobody wants any more."""
        while self._asked:
            self.collect(self._asked[-1])

    def _read(self) -> None:
        while True:
            head = self._source.read(LENGTH.size)
            if len(head) < LENGTH.size:
                os._exit(0)  # the server is gone, or wants no more
            self._came.put(decode_to_worker(self._source.read(LENGTH.unpack(head)[0])))


class PipeSource:
    """Rows from the server. ``gateway.sql.source.Source``, for one query."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self._live: dict[str, Facts] = {}

    def scan(self, start: bytes, stop: bytes, keys_only: bool = False) -> Iterator[list[Row]]:
        limit = _FIRST_ROWS
        ticket = self._pipe.ask(Scan(start, stop, limit, keys_only))
        while True:
            answer = self._pipe.collect(ticket)
            rows = answer.rows
            if answer.then is None:
                yield rows
                return
            start = answer.then
            size = sum(len(key) + len(value) for key, value in rows)
            if size:
                limit = max(1, min(2 * limit, _MOST_ROWS, len(rows) * _PART_BYTES // size))
            ticket = self._pipe.ask(
                Scan(start, stop, limit, keys_only)
            )  # read while these are used
            yield rows

    def fetch(self, keys: list[bytes]) -> list[Row]:
        rows: list[Row] = []
        while True:
            answer = self._pipe.collect(self._pipe.ask(Fetch(keys)))
            rows += answer.rows
            if answer.then is None:
                return rows
            keys = keys[keys.index(answer.then) :]

    def live(self, table: str) -> Facts:
        if table not in self._live:
            self._live[table] = self._pipe.collect(self._pipe.ask(Live(table))).live
        return self._live[table]


class _NoSource:
    """For the warm-up, which reads nothing."""

    def scan(self, start: bytes, stop: bytes, keys_only: bool = False) -> Iterator[list[Row]]:
        return iter(())

    def fetch(self, keys: list[bytes]) -> list[Row]:
        return []

    def live(self, table: str) -> Facts:
        return []


def confine(memory_bytes: int) -> None:
    """Give up files, sockets and memory past ``memory_bytes``. What is open stays open."""
    warm_up = "SELECT count(*) AS n, max(now()) AS t FROM state ORDER BY n"
    for as_json in (True, False):  # whatever is loaded when it is first used
        list(answer(warm_up, as_json, _WARM_UP_BYTES, _NoSource()))
    taken = _data_bytes()
    if taken is not None:  # the rows of the tables, and what is made of them
        limit = taken + 2 * memory_bytes + _SPARE_BYTES
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))


def _data_bytes() -> int | None:
    """What the libraries have set aside already, mostly without using it; None where that is unknown."""
    try:
        pages = Path("/proc/self/statm").read_text().split()[_DATA_FIELD]
    except OSError:
        return None
    return int(pages) * resource.getpagesize()


def serve(pipe: Pipe) -> None:
    while True:
        query = pipe.next()
        assert isinstance(query, Query), "rows come only when they were asked for"
        try:
            for chunk in answer(query.sql, query.json, query.memory_bytes, PipeSource(pipe)):
                pipe.say(Chunk(chunk))
            last: FromWorker = End()
        except QueryRefused as e:
            last = Refused(e.status, e.message)
        pipe.settle()
        pipe.say(last)


def main() -> None:
    os.nice(_NICENESS)  # calls go first
    pipe = Pipe(sys.stdin.buffer, sys.stdout.buffer)
    confine(int(sys.argv[1]))
    serve(pipe)


if __name__ == "__main__":
    main()
