"""SIGKILL again and again under a schedule of every second: no tick is lost, none is doubled."""

import json
import os
import time
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any
from urllib.request import urlopen

from tests.crash.server import PROGRAMS, Nursery, Server

KILLS = int(os.environ.get("CRASH_SCHEDULE_KILLS", "6"))
_PATIENCE_S = 30.0


def _get(url: str) -> Any:
    with urlopen(url, timeout=_PATIENCE_S) as answer:
        return json.loads(answer.read())


def _schedule(server: Server) -> dict[str, Any]:
    found: dict[str, Any] = _get(f"{server.admin_url}/schedules/seconds")
    return found


def _ticks(server: Server) -> list[str]:
    found: list[str] = _get(f"{server.ingress_url}/Clock/all/ticks")
    return found


def _await_ticks(server: Server, count: int) -> list[str]:
    until_s = time.monotonic() + _PATIENCE_S
    while len(found := _ticks(server)) < count:
        assert time.monotonic() < until_s, f"only {len(found)} ticks"
        time.sleep(0.005)
    return found


def test_no_second_is_lost_or_doubled_by_kills(tmp_path: Path) -> None:
    rng = Random(int.from_bytes(os.urandom(4), "big"))
    effects = tmp_path / "ticks"
    with Nursery() as nursery:
        server = Server(
            tmp_path / "data",
            PROGRAMS / "ticking.py",
            environ={"TICKS": str(effects)},
            launch=nursery.launch,
        )
        try:
            server.start()
            found = _await_ticks(server, 1)
            for _ in range(KILLS):
                # any moment of a second: some fall on a tick, some pass over one or two
                time.sleep(rng.random() * 0.7)
                server.kill()
                time.sleep(rng.choice((0.0, 0.5, 1.5)))
                server.start()
            found = _await_ticks(server, len(found) + KILLS)
            stands = _schedule(server)
        except BaseException:
            print(server.log()[-8000:])
            raise
        finally:
            server.close()
    moments = [datetime.fromisoformat(each) for each in found]
    assert moments == [moments[0] + timedelta(seconds=n) for n in range(len(moments))]
    assert stands["counts"]["missed"] == stands["counts"]["skipped"] == 0
    assert stands["counts"]["started"] >= len(found)
    written = effects.read_text().splitlines()
    assert list(dict.fromkeys(written))[: len(found)] == found
    assert len(written) - len(set(written)) <= KILLS  # a run that a kill cut off may run again
