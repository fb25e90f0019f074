"""SIGKILL at random instants, again and again, under a client that uses every part of the engine.

Afterwards everything acknowledged is there, nothing happened twice that was journaled once, and every
invocation ends. The seed decides instants and traffic as far as a machine with other work on it lets
it; `CRASH_SEED` sets it, `CRASH_KILLS` the number of kills.
"""

import asyncio
import os
import time
from pathlib import Path
from random import Random

import msgspec
import pytest

from tests.crash.checkers import (
    Answer,
    Effect,
    check_answers,
    check_chain,
    check_completions,
    check_effects,
    check_order,
    check_timers,
    share_of_good,
)
from tests.crash.server import PROGRAMS, Nursery, Server
from tests.crash.traffic import Traffic
from tests.crash.verdict import END_S, Seen, finish, problems

KILLS = int(os.environ.get("CRASH_KILLS", "50"))
SEED = int(os.environ.get("CRASH_SEED", "0")) or int.from_bytes(os.urandom(4), "big")
_START_S = 0.15  # what a start takes about; some kills fall within it


async def _kill_again_and_again(server: Server, traffic: Traffic, rng: Random) -> Seen:
    """Each life ends after a random number of requests or answers, or while it starts."""
    seen = Seen(traffic.history, [], 0)
    for _ in range(KILLS):
        if not traffic.serving.is_set():  # a start that is not waited for
            server.launch()
            await asyncio.sleep(rng.random() * _START_S)
        else:
            await traffic.progress(rng.randint(1, 400))
            await asyncio.sleep(rng.random() * 0.003)
            traffic.serving.clear()
            seen.faults.append((time.monotonic_ns(), 0))
        await asyncio.to_thread(server.kill)
        seen.kills += 1
        if rng.random() < 0.2:
            continue
        await _start(server, traffic, seen)
    if not traffic.serving.is_set():
        await _start(server, traffic, seen)
    return seen


async def _start(server: Server, traffic: Traffic, seen: Seen) -> None:
    await asyncio.to_thread(server.start)
    began_ns, _ = seen.faults[-1]
    seen.faults[-1] = (began_ns, time.monotonic_ns())
    traffic.serving.set()


def _run(tmp_path: Path, flags: tuple[str, ...]) -> Seen:
    rng = Random(SEED)
    effects = tmp_path / "effects"

    async def run(server: Server) -> Seen:
        traffic = Traffic(lambda: server.ingress_url, Random(rng.random()))
        await asyncio.to_thread(server.start)
        traffic.serving.set()
        running = asyncio.create_task(traffic.run())
        killing = asyncio.create_task(_kill_again_and_again(server, traffic, rng))
        await asyncio.wait((running, killing), return_when=asyncio.FIRST_COMPLETED)
        if running.done():  # only with an error
            killing.cancel()
        else:
            traffic.stopping = True
        _, still_running = await asyncio.wait([running], timeout=END_S)
        assert not still_running, "work that was accepted never ends: it was lost, or it hangs"
        await running
        seen = await killing
        await finish(server, traffic, seen)
        return seen

    with Nursery() as nursery:
        program = PROGRAMS / "everything.py"
        environ = {"EFFECTS": str(effects)}
        server = Server(
            tmp_path / "data", program, flags=flags, environ=environ, launch=nursery.launch
        )
        try:
            seen = asyncio.run(run(server))
        except BaseException:
            print(server.log()[-8000:])
            raise
        finally:
            server.close()
    seen.effects = [Effect(*line.split()) for line in effects.read_text().splitlines()]
    return seen


@pytest.mark.parametrize(
    "flags",
    [(), ("--set", "handlers.inactivity_timeout=0s", "--set", "handlers.lazy_state=true")],
    ids=["kept", "suspended"],
)
def test_kills_lose_nothing_and_double_nothing(tmp_path: Path, flags: tuple[str, ...]) -> None:
    """With coroutines that are kept while they wait, and with a replay after every wait."""
    began = time.monotonic()
    print(f"CRASH_SEED={SEED}")
    seen = _run(tmp_path, flags)
    good, bad, inside = share_of_good(seen.history.requests, seen.faults)
    unknown = sum(not each.ok for each in seen.history.requests) - bad
    print(
        f"{seen.kills} kills in {time.monotonic() - began:.1f} s; outside the faults {good} requests "
        f"ok, {bad} unknown; {inside} inside, {unknown} unknown; {len(seen.effects)} side effects of "
        f"{len(seen.history.recorded)} recorded, {len(seen.history.timers)} timers, "
        f"{len(seen.history.found)} completions, {sum(map(len, seen.received.values()))} in order"
    )
    assert problems(seen) == []
    assert seen.kills >= KILLS
    assert good >= 9 * (good + bad) / 10
    assert unknown > 0  # else no kill hit a request
    _the_checks_would_have_noticed(seen)


def _the_checks_would_have_noticed(seen: Seen) -> None:
    """The same history with one fault put in is refused, for each kind of fault."""
    history = seen.history
    key, adds = next(iter(history.adds.items()))
    known = [each for each in adds if each.seen is not None]
    assert check_chain([*adds, known[0]], seen.totals[key])
    assert check_chain(known, seen.totals[key] + 1)
    last = known[-1]
    doubled = msgspec.structs.replace(last, seen=(seen.totals[key], seen.totals[key] + last.amount))
    assert check_chain([*adds, doubled], seen.totals[key])
    step = next(iter(history.recorded))
    assert check_effects([*seen.effects, Effect(*step, "again")], history.recorded)
    receiver = max(seen.received, key=lambda each: len(seen.received[each]))
    items = seen.received[receiver]
    assert check_order(items[1:], history.sent[receiver])
    assert check_order([*items, items[-1]], history.sent[receiver])
    assert check_order([items[-1], *items[:-1]], history.sent[receiver])
    assert check_answers([*history.answers, Answer(history.answers[0].idempotency_key, "x", b"")])
    assert check_timers([*history.timers, history.timers[0]])
    assert check_completions(history.completed, {})
