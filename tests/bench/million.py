"""The console beside calls, on a store with very many completed invocations.

By hand, not part of the suite; needs wrk:

    python -m tests.bench.million --count 1000000 --data DIR

Fills DIR once (some minutes) and keeps it. Then `perdure up` on it: how long the pages take, and calls of 8
connections in rounds, by turns with nobody looking and with two pages open.
"""

import argparse
import asyncio
import re
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from statistics import median

import httpx
import uvloop

import perdure
from perdure.embedded import System
from tests.crash.server import Server

_AT_ONCE = 500
_ROUNDS = 7
_SECONDS = 4
_PAGES = {
    "overview": "/ui/api/overview",
    "invocations, first page": "/ui/api/invocations?limit=50",
    "invocations of a service": "/ui/api/invocations?limit=50&service=Fill",
    "failed invocations": "/ui/api/invocations?limit=50&status=failed",
    "invocations of a key": "/ui/api/invocations?limit=50&service=Counter&key=alice",
}
_OPEN = (  # pages and the seconds between their requests, as in the console's scripts
    {"overview": 2.0, "invocations, first page": 3.0},
    {"overview": 2.0, "invocations of a service": 3.0},
    {"overview": 2.0, "failed invocations": 3.0},
)
_PROGRAM = '''"""Small services to fill a store with."""
import perdure
fill = perdure.Service("Fill")
counter = perdure.VirtualObject("Counter")

@fill.handler()
async def note(ctx: perdure.Context, number: int) -> int:
    if number % 1000 == 7:
        raise perdure.TerminalError("no")
    return number

@counter.handler()
async def add(ctx: perdure.ObjectContext, amount: int) -> int:
    total = (await ctx.get("total", type_hint=int) or 0) + amount
    ctx.set("total", total)
    return total
'''


async def fill(program: Path, data: Path, count: int) -> None:
    space: dict[str, object] = {}
    exec(compile(program.read_text(), program, "exec"), space)
    service = space["fill"]
    assert isinstance(service, perdure.Service)
    async with perdure.open(str(data), services=[service]) as system:
        await _notes(system, count)


async def _notes(system: System, count: int) -> None:
    numbers = iter(range(count))

    async def some() -> None:
        for number in numbers:
            body = str(number).encode()
            await system.submit(
                "Fill", "note", body, "application/json", None, True, None, None, {}, None, None
            )

    await asyncio.gather(*(some() for _ in range(_AT_ONCE)))


class Looker(threading.Thread):
    """Two pages that are left open in a browser: each asks again when its script does."""

    def __init__(self, url: str, pages: dict[str, float]) -> None:
        super().__init__(daemon=True)
        self._url, self._pages, self._over = url, pages, threading.Event()

    def run(self) -> None:
        due = dict.fromkeys(self._pages, time.monotonic())
        with httpx.Client(base_url=self._url, trust_env=False, timeout=60) as client:
            while not self._over.wait(max(0.0, min(due.values()) - time.monotonic())):
                name = min(due, key=lambda each: due[each])
                client.get(_PAGES[name])
                due[name] = time.monotonic() + self._pages[name]

    def end(self) -> None:
        self._over.set()
        self.join()


def rate(url: str, script: Path) -> float:
    command = ["wrk", "-t1", "-c8", f"-d{_SECONDS}s", "-s", str(script), url]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"Requests/sec:\s+([\d.]+)", said)
    assert found, said
    assert "Non-2xx" not in said, said
    return float(found[1])


def measure(server: Server, directory: Path) -> None:
    script = directory / "load.lua"
    script.write_text(
        'local n = 0\nfunction request()\n  n = n + 1\n  return wrk.format("POST", "/Counter/k" .. (n % 1000)'
        ' .. "/add", {["content-type"] = "application/json"}, "1")\nend\n'
    )
    with httpx.Client(base_url=server.admin_url, trust_env=False, timeout=60) as client:
        for name, path in _PAGES.items():
            took = []
            for _ in range(5):
                began = time.perf_counter()
                client.get(path).raise_for_status()
                took.append(time.perf_counter() - began)
            print(f"{name:28} first {took[0] * 1000:6.1f} ms, median {median(took) * 1000:6.1f} ms")
    rate(server.ingress_url, script)  # warm
    for pages in _OPEN:
        _by_turns(server, script, pages)


def _by_turns(server: Server, script: Path, pages: dict[str, float]) -> None:
    alone, watched = [], []
    for _ in range(_ROUNDS):
        alone.append(rate(server.ingress_url, script))
        looker = Looker(server.admin_url, pages)
        looker.start()
        watched.append(rate(server.ingress_url, script))
        looker.end()
    share = sorted(b / a for a, b in zip(alone, watched, strict=True))
    print(
        f"calls {median(alone):.0f}/s alone, {median(watched):.0f}/s with {', '.join(pages)} open; "
        f"share of each pair {share[0]:.2f} to {share[-1]:.2f}, median {median(share):.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--data", type=Path, required=True)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        program = Path(directory) / "million.py"
        program.write_text(_PROGRAM)
        if not arguments.data.exists():
            began = time.perf_counter()
            uvloop.run(fill(program, arguments.data, arguments.count))
            print(f"{arguments.count} invocations in {time.perf_counter() - began:.0f} s")
        with Server(arguments.data, program) as server:
            measure(server, Path(directory))


if __name__ == "__main__":
    main()
