"""Any process of the tree is killed or stopped at random instants, under a client that uses every part.

Afterwards everything acknowledged is there, nothing happened twice that was journaled once, order per key is
kept, every invocation ends, and no process is left over. `CHAOS_SEED` sets the seed, `CHAOS_FAULTS` how many
faults; by hand, with `CHAOS_FAULTS=1200`, it takes about ten minutes.
"""

import asyncio
import os
import select
import signal
import time
from pathlib import Path
from random import Random

from tests.crash.checkers import Effect
from tests.crash.server import PROGRAMS, Server
from tests.crash.traffic import Traffic
from tests.crash.verdict import END_S, Seen, finish, problems

FAULTS = int(os.environ.get("CHAOS_FAULTS", "25"))
SEED = int(os.environ.get("CHAOS_SEED", "0")) or int.from_bytes(os.urandom(4), "big")
_GONE_S = 20.0
_FLAGS = ("--system", "processes", "--partitions", "2", "--gateways", "2")


def _descendants(pid: int) -> list[int]:
    """All processes below one, in no order."""
    found: list[int] = []
    waiting = [pid]
    while waiting:
        try:
            children = Path(f"/proc/{waiting[0]}/task/{waiting[0]}/children").read_text()
        except OSError:  # it ended meanwhile
            children = ""
        waiting = [*waiting[1:], *map(int, children.split())]
        found += map(int, children.split())
    return found


def _open_pidfds(pids: list[int]) -> list[int]:
    fds = []
    for pid in pids:
        try:
            fds.append(os.pidfd_open(pid))
        except ProcessLookupError:
            continue
    return fds


def _all_gone(pidfds: list[int]) -> bool:
    """Whether all of them end within the time; closes them."""
    deadline, left = time.monotonic() + _GONE_S, set(pidfds)
    while left and (rest := deadline - time.monotonic()) > 0:
        left -= set(select.select(left, [], [], rest)[0])
    for fd in pidfds:
        os.close(fd)
    return not left


class Chaos:
    """``pauses_s``: from each fault to the first answer to a request that was made after it."""

    def __init__(self, server: Server, traffic: Traffic, rng: Random) -> None:
        self._server, self._traffic, self._rng = server, traffic, rng
        self.seen = Seen(traffic.history, [], 0)
        self.pauses_s: list[float] = []
        self.counts: dict[str, int] = {}

    async def rage(self) -> Seen:
        for _ in range(FAULTS):
            await self._traffic.progress(self._rng.randint(50, 600))
            began_ns = time.monotonic_ns()
            if self._rng.random() < 0.06:
                await self._end_the_watchdog()
            else:
                await self._hurt_one()
            answered_ns = await self._answer_after(began_ns)
            self.pauses_s.append((answered_ns - began_ns) / 1e9)
            self.seen.faults.append((began_ns, answered_ns))
            self.seen.kills += 1
        return self.seen

    async def _answer_after(self, moment_ns: int) -> int:
        """When the first request that was made after a moment was answered."""
        checked = len(self._traffic.history.requests)
        while True:
            requests = self._traffic.history.requests
            for each in requests[checked:]:
                if each.ok and each.called_ns > moment_ns:
                    return each.returned_ns
            checked = len(requests)
            await self._traffic.progress(1)

    async def _hurt_one(self) -> None:
        """A worker, the supervisor, Thespian's Admin or its logger."""
        pids = _descendants(self._server.pid)
        if not pids:
            return  # the whole tree is on its way back
        pid = self._rng.choice(pids)
        how = self._rng.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGSTOP])
        try:
            os.kill(pid, how)
        except ProcessLookupError:
            return  # an earlier fault took it along
        self.counts[how.name] = self.counts.get(how.name, 0) + 1

    async def _end_the_watchdog(self) -> None:
        """Its death ends everything; who started it starts it again."""
        self._traffic.serving.clear()
        left = _open_pidfds(_descendants(self._server.pid))
        await asyncio.to_thread(self._server.kill)
        assert await asyncio.to_thread(_all_gone, left), "processes outlive the watchdog"
        await asyncio.to_thread(self._server.start)
        self._traffic.serving.set()
        self.counts["watchdog"] = self.counts.get("watchdog", 0) + 1


async def _run(server: Server, rng: Random) -> tuple[Seen, Chaos]:
    traffic = Traffic(lambda: server.ingress_url, Random(rng.random()))
    await asyncio.to_thread(server.start)
    traffic.serving.set()
    chaos = Chaos(server, traffic, rng)
    running = asyncio.create_task(traffic.run())
    raging = asyncio.create_task(chaos.rage())
    await asyncio.wait((running, raging), return_when=asyncio.FIRST_COMPLETED)
    if running.done() or raging.exception() is not None:  # only with an error
        raging.cancel()
    traffic.stopping = True
    _, still_running = await asyncio.wait([running], timeout=END_S)
    assert not still_running, "work that was accepted never ends: it was lost, or it hangs"
    await running
    seen = await raging
    await finish(server, traffic, seen)
    return seen, chaos


def test_any_process_may_die_or_hang_and_nothing_is_lost_or_doubled(tmp_path: Path) -> None:
    print(f"CHAOS_SEED={SEED}")
    effects = tmp_path / "effects"
    server = Server(
        tmp_path / "data",
        PROGRAMS / "everything.py",
        flags=_FLAGS,
        environ={"EFFECTS": str(effects)},
    )
    try:
        seen, chaos = asyncio.run(_run(server, Random(SEED)))
        left = _open_pidfds(_descendants(server.pid))
        assert server.stop() == 0
        assert _all_gone(left), "processes outlive a clean stop"
    except BaseException:
        print(server.log()[-8000:])
        raise
    finally:
        server.close()
    seen.effects = [Effect(*line.split()) for line in effects.read_text().splitlines()]
    pauses = sorted(chaos.pauses_s)
    print(
        f"{chaos.counts}; {len(seen.history.requests)} requests; pause after a fault: median "
        f"{pauses[len(pauses) // 2]:.2f} s, p99 {pauses[int(len(pauses) * 0.99)]:.2f} s"
    )
    assert problems(seen) == []
    assert sum(chaos.counts.values()) > FAULTS / 2
