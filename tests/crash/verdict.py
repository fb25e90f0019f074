"""What is known when all faults are over, and whether that can be: for every test that breaks a server under
traffic. The checks themselves are in checkers.py.
"""

import asyncio
import json
import time
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import msgspec

from tests.crash.checkers import (
    Effect,
    check_answers,
    check_chain,
    check_completions,
    check_effects,
    check_order,
    check_timers,
)
from tests.crash.server import Server
from tests.crash.traffic import History, Traffic

END_S = 60.0  # for everything that was accepted to end, after the last fault (P10)


class Seen(msgspec.Struct):
    """All that can be known after the last restart."""

    history: History
    faults: list[tuple[int, int]]
    kills: int
    effects: list[Effect] = []
    totals: dict[str, int] = {}
    received: dict[str, list[tuple[str, int]]] = {}


async def finish(server: Server, traffic: Traffic, seen: Seen) -> None:
    """Read everything back, and wait until nothing runs any more."""
    deadline = time.monotonic() + END_S
    while unfinished := _unfinished(server):
        assert time.monotonic() < deadline, f"these never end: {unfinished}"
        await asyncio.sleep(0.05)
    for key in [*traffic.history.adds, "of-pipelines"]:
        seen.totals[key] = _get(f"{server.ingress_url}/Counter/{key}/total")
    for key in traffic.history.sent:
        items = _get(f"{server.ingress_url}/Receiver/{key}/items")
        seen.received[key] = [(sender, number) for sender, number in items]


def _get(url: str) -> Any:
    """The last fault may be on its way to whoever answers."""
    deadline = time.monotonic() + END_S
    while True:
        try:
            with urlopen(url, timeout=END_S) as answer:
                return json.loads(answer.read())
        except HTTPError:
            raise
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _unfinished(server: Server) -> list[str]:
    found = []
    for status in ("scheduled", "pending", "running", "backing-off", "suspended", "paused"):
        answer = _get(f"{server.admin_url}/invocations?status={status}&limit=10000")
        found += [f"{each['id']} {each['target']} {status}" for each in answer["invocations"]]
    return found


def problems(seen: Seen) -> list[str]:
    history = seen.history
    found = []
    for key, adds in history.adds.items():
        found += check_chain(adds, seen.totals[key])
    if seen.totals["of-pipelines"] != history.pipeline_calls:
        found.append(f"{seen.totals['of-pipelines']} calls of {history.pipeline_calls} counted")
    found += check_effects(seen.effects, history.recorded)
    for key, sent in history.sent.items():
        found += check_order(seen.received[key], sent)
    found += check_answers(history.answers)
    found += check_timers(history.timers)
    found += check_completions(history.completed, history.found)
    return found
