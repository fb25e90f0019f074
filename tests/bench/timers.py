"""What a very large number of timers costs: time to set them, memory with them, time to start with them.

By hand, not part of the suite:

    python -m tests.bench.timers --count 1000000

Delayed sends to a plain service, on a real store in a temporary directory, all due after the run.
"""

import argparse
import asyncio
import tempfile
import time
from datetime import timedelta
from pathlib import Path

import uvloop

import perdure
from perdure.embedded import System

_AT_ONCE = 1_000

bell = perdure.Service("Bell")


@bell.handler()
async def ring(ctx: perdure.Context, number: int) -> int:
    return number


def resident_mib() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("the kernel tells no VmRSS")


async def fill(system: System, count: int) -> None:
    numbers = iter(range(count))

    async def some() -> None:
        for number in numbers:
            delay = timedelta(hours=10, milliseconds=number % 3_600_000)
            await system.service_send(ring, arg=number, send_delay=delay)

    await asyncio.gather(*(some() for _ in range(_AT_ONCE)))


async def measure(path: str, count: int) -> None:
    before_mib = resident_mib()
    async with perdure.open(path, services=[bell]) as system:
        began_s, cpu_s = time.perf_counter(), time.process_time()
        await fill(system, count)
        took_s, cpu_s = time.perf_counter() - began_s, time.process_time() - cpu_s
        print(
            f"{count} timers set in {took_s:.0f} s ({cpu_s / count * 1e6:.0f} µs of CPU each); "
            f"resident {resident_mib():.0f} MiB, {before_mib:.0f} before"
        )
    began_s = time.perf_counter()
    async with perdure.open(path, services=[bell]) as system:
        await system.service_call(ring, arg=1)
        print(
            f"opened again and called once in {time.perf_counter() - began_s:.1f} s; "
            f"resident {resident_mib():.0f} MiB"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1_000_000)
    count = parser.parse_args().count
    with tempfile.TemporaryDirectory() as directory:
        uvloop.run(measure(str(Path(directory) / "data"), count))


if __name__ == "__main__":
    main()
