"""The worker's process: what it gives up before its first query, and that it does not outlive the server."""

import subprocess
import sys
from pathlib import Path
from typing import BinaryIO

from perdure.gateway.sql.messages import (
    LENGTH,
    Chunk,
    End,
    FromWorker,
    Live,
    Query,
    Rows,
    Scan,
    ToWorker,
    decode_from_worker,
    frame,
)

MEMORY_BYTES = 64 << 20
CONFINED = """
import os, socket, sys, tempfile
from perdure.gateway.sql.worker import confine
confine(64 << 20)
refused = []
for attempt in (
    lambda: open("/etc/hostname"),
    lambda: open("/dev/null", "w"),
    lambda: os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY),
    lambda: socket.socket(),
    lambda: os.pipe(),
    lambda: bytearray(4 << 30),
):
    try:
        attempt()
    except (OSError, MemoryError) as error:
        refused.append(type(error).__name__)
os.write(1, ",".join(refused).encode())
os._exit(0)
"""


def test_a_confined_process_opens_no_file_and_no_socket(tmp_path: Path) -> None:
    there = tmp_path / "made"
    run = subprocess.run(
        [sys.executable, "-c", CONFINED, str(there)], capture_output=True, timeout=60, check=True
    )
    assert run.stdout.decode() == "OSError,OSError,OSError,OSError,OSError,MemoryError"
    assert not there.exists()


class Worker:
    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "perdure.gateway.sql.worker", str(MEMORY_BYTES)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.to: BinaryIO = self.process.stdin  # type: ignore[assignment]
        self.come: BinaryIO = self.process.stdout  # type: ignore[assignment]

    def say(self, message: ToWorker) -> None:
        self.to.write(frame(message))
        self.to.flush()

    def next(self) -> FromWorker:
        (size,) = LENGTH.unpack(self.come.read(LENGTH.size))
        message: FromWorker = decode_from_worker(self.come.read(size))
        return message

    def close(self) -> int:
        self.to.close()
        code = self.process.wait(60)
        self.come.close()
        return code


def test_a_worker_ends_when_its_pipe_is_closed() -> None:
    worker = Worker()
    worker.say(Query("select 1 as n", True, MEMORY_BYTES))
    assert worker.next() == Chunk(b'{"rows":[{"n":1}]}')
    assert worker.next() == End()
    assert worker.close() == 0


def test_a_worker_ends_in_the_middle_of_a_query_without_end() -> None:
    worker = Worker()
    worker.say(Query("select sum(a.value * b.value) from range(0, 100000) a, range(0, 10000000) b",
                     True, MEMORY_BYTES))  # fmt: skip
    assert worker.close() == 0


def test_a_scan_goes_on_behind_the_last_row_and_asks_ahead() -> None:
    worker = Worker()
    worker.say(Query("select service_key from state", True, MEMORY_BYTES))
    first = worker.next()
    assert isinstance(first, Scan)
    assert first.keys_only
    rows = [(b"\x30" + bytes(8) + b"\x00\x01S\x00\x01" + bytes([97 + i % 26]) + b"%03d" % i, b"")
            for i in range(first.limit)]  # fmt: skip
    worker.say(Rows(rows, then=rows[-1][0] + b"\x00"))
    second = worker.next()
    assert isinstance(second, Scan)
    assert second.start == rows[-1][0] + b"\x00"
    worker.say(Rows())
    chunk = worker.next()
    assert isinstance(chunk, Chunk)
    assert chunk.data.count(b"service_key") == first.limit
    assert worker.next() == End()
    assert worker.close() == 0


def test_a_query_on_live_rows_asks_for_them_once() -> None:
    worker = Worker()
    worker.say(Query("select a.name from sys_service a join sys_service b on a.name = b.name", True,
                     MEMORY_BYTES))  # fmt: skip
    assert worker.next() == Live("sys_service")
    worker.say(Rows(live=[{"name": "S"}]))
    assert worker.next() == Chunk(b'{"rows":[{"name":"S"}]}')
    assert worker.next() == End()
    assert worker.close() == 0


def test_no_server_loads_datafusion() -> None:
    code = (
        "import sys, perdure.gateway.up; "
        "print([m for m in ('datafusion', 'pyarrow') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=True)
    assert run.stdout == b"[]\n"
