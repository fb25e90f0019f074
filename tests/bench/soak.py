"""Does memory stay flat? A server under steady traffic for a long time, its memory noted once a minute.

By hand, not part of the suite:

    python -m tests.bench.soak --minutes 30 --rate 200 -- --system processes --partitions 2

What follows `--` goes to `perdure up`. Prints resident memory of all its processes, the size of the data and
the number of requests, minute by minute, and at the end how memory grew in the second half.
"""

import argparse
import asyncio
import tempfile
import time
from itertools import count
from pathlib import Path

import aiohttp

from tests.crash.families import descendants
from tests.crash.server import Server

PROGRAM = Path(__file__).parents[2] / "samples" / "counter.py"
_KEYS = 5_000  # of which each is used again and again


def resident_mib(pid: int) -> float:
    """Of all processes together: what is theirs alone, and their share of the rest."""
    total = 0
    for each in (pid, *descendants(pid)):
        for line in Path(f"/proc/{each}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total / 1024


def data_mib(data: Path) -> float:
    return sum(each.stat().st_size for each in data.rglob("*") if each.is_file()) / (1 << 20)


class Load:
    def __init__(self, url: str, rate: float) -> None:
        self._url, self._pause_s = url, 1 / rate
        self.done, self.failed = 0, 0

    async def run(self, until_s: float) -> None:
        """Calls at a steady rate, whatever the answers take."""
        connector = aiohttp.TCPConnector(limit=64)
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            asyncio.TaskGroup() as group,
        ):
            next_s = time.monotonic()
            for number in count():
                if (now_s := time.monotonic()) >= until_s:
                    return
                if now_s < next_s:
                    await asyncio.sleep(next_s - now_s)
                next_s += self._pause_s
                group.create_task(self._one(session, number))

    async def _one(self, session: aiohttp.ClientSession, number: int) -> None:
        url = f"{self._url}/Counter/soak-{number * 7919 % _KEYS}/add"
        try:
            async with session.post(url, json=1) as answer:
                await answer.read()
                good = answer.status == 200
        except (aiohttp.ClientError, TimeoutError):
            good = False
        self.done += good
        self.failed += not good


async def soak(server: Server, minutes: int, rate: float) -> None:
    load = Load(server.ingress_url, rate)
    begin_s = time.monotonic()
    running = asyncio.create_task(load.run(begin_s + minutes * 60))
    found: list[float] = []
    while not running.done():
        await asyncio.wait([running], timeout=60)
        found.append(resident_mib(server.pid))
        minute = (time.monotonic() - begin_s) / 60
        print(
            f"{minute:5.1f} min  {found[-1]:7.1f} MiB resident  {data_mib(server.data):7.1f} MiB of data  "
            f"{load.done} good, {load.failed} not", flush=True,
        )  # fmt: skip
    await running
    half = found[len(found) // 2 :]
    print(f"second half: from {half[0]:.1f} to {half[-1]:.1f} MiB, at most {max(half):.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=int, default=30)
    parser.add_argument("--rate", type=float, default=200)
    parser.add_argument("flags", nargs="*", help="for `perdure up`")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        flags = ("--set", "handlers.journal_retention=2m", *arguments.flags)
        server = Server(Path(directory) / "data", PROGRAM, flags=flags)
        with server:
            asyncio.run(soak(server, arguments.minutes, arguments.rate))


if __name__ == "__main__":
    main()
