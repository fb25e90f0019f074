"""Any process of the tree is killed or stopped at random instants, under a client that uses every part.

Afterwards everything acknowledged is there, nothing happened twice that was journaled once, order per key is
kept, every invocation ends, and no process is left over. `CHAOS_SEED` sets the seed, `CHAOS_FAULTS` how many
faults; by hand, with `CHAOS_FAULTS=500`, it takes about ten minutes.
"""

import asyncio
import os
import signal
import time
from pathlib import Path
from random import Random
from typing import NamedTuple

from tests.crash.checkers import Effect
from tests.crash.families import all_gone, descendants, open_pidfds, role_of
from tests.crash.server import PROGRAMS, Server
from tests.crash.traffic import Traffic
from tests.crash.verdict import END_S, Seen, finish, problems

FAULTS = int(os.environ.get("CHAOS_FAULTS", "25"))
SEED = int(os.environ.get("CHAOS_SEED", "0")) or int.from_bytes(os.urandom(4), "big")
_FLAGS = ("--system", "processes", "--partitions", "2", "--gateways", "2")


class Pause(NamedTuple):
    """From a fault to the first answer to a request that was made after it."""

    seconds: float
    fault: str  # to whom, and what
    at: str  # the time of day, as the log has it


class Chaos:
    """``pauses``: one for each fault that hit somebody."""

    def __init__(self, server: Server, traffic: Traffic, rng: Random) -> None:
        self._server, self._traffic, self._rng = server, traffic, rng
        self.seen = Seen(traffic.history, [], 0)
        self.pauses: list[Pause] = []

    async def rage(self) -> Seen:
        for _ in range(FAULTS):
            await self._traffic.progress(self._rng.randint(50, 600))
            at, began_ns = time.strftime("%H:%M:%S"), time.monotonic_ns()
            fault = await (
                self._end_the_watchdog() if self._rng.random() < 0.06 else self._hurt_one()
            )
            answered_ns = await self._answer_after(began_ns)
            if not fault:
                continue
            self.pauses.append(Pause((answered_ns - began_ns) / 1e9, fault, at))
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

    async def _hurt_one(self) -> str:
        """A worker, the supervisor, Thespian's Admin or its logger; "" where nobody was hit."""
        pids = descendants(self._server.pid)
        if not pids:
            return ""  # the whole tree is on its way back
        pid = self._rng.choice(pids)
        how = self._rng.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGSTOP])
        try:
            role = role_of(pid, self._server.pid)
            os.kill(pid, how)
        except OSError:
            return ""  # an earlier fault took it along
        return f"{role} {how.name}"

    async def _end_the_watchdog(self) -> str:
        """Its death ends everything; who started it starts it again."""
        self._traffic.serving.clear()
        left = open_pidfds(descendants(self._server.pid))
        await asyncio.to_thread(self._server.kill)
        assert await asyncio.to_thread(all_gone, left), "processes outlive the watchdog"
        await asyncio.to_thread(self._server.start)
        self._traffic.serving.set()
        return "watchdog SIGKILL"


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


def _figures(seen: Seen, pauses: list[Pause]) -> str:
    """For people: what is sound on one machine is slow on another, so that none of it is asserted."""
    below = [each for each in pauses if not each.fault.startswith("watchdog")]
    lines = [
        f"{len(seen.history.requests)} requests, {len(pauses)} faults",
        _spans("all faults", pauses),
        _spans("all but the watchdog's", below),  # that one is a start of Python and all imports
    ]
    lines += [
        _spans(fault, [each for each in pauses if each.fault == fault])
        for fault in sorted({each.fault for each in pauses})
    ]
    longest = sorted(pauses, reverse=True)[:10]
    return "\n".join([*lines, *(f"{s:.2f} s  {fault} at {at}" for s, fault, at in longest)])


def _spans(fault: str, pauses: list[Pause]) -> str:
    spans = sorted(each.seconds for each in pauses)
    median, p99 = spans[len(spans) // 2], spans[int(len(spans) * 0.99)]
    return (
        f"pause after {len(spans):4d} x {fault:25} median {median:.2f} s, "
        f"p99 {p99:.2f} s, longest {spans[-1]:.2f} s"
    )


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
        left = open_pidfds(descendants(server.pid))
        assert server.stop() == 0
        assert all_gone(left), "processes outlive a clean stop"
    except BaseException:
        print(server.log()[-8000:])
        raise
    finally:
        server.close()
    seen.effects = [Effect(*line.split()) for line in effects.read_text().splitlines()]
    print(_figures(seen, chaos.pauses))
    assert problems(seen) == []
    assert len(chaos.pauses) > FAULTS / 2
