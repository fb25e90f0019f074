"""A look into partitions behind sockets: the cluster's own inspection."""

import asyncio
from functools import partial
from pathlib import Path

import pytest

from perdure.actors.inspector import Inspector
from perdure.journal import keys
from perdure.journal.errors import StoreFailed
from perdure.journal.inspecting import CountPinned, Flush, Inspectable, Look, Scan, answer_bytes
from tests.actors.plane.stage import Machine


def test_a_cluster_is_looked_into_through_its_sockets(tmp_path: Path) -> None:
    async def main() -> None:
        async with Machine(tmp_path, 2, brief_hold_s=0.2) as machine:
            for server, engine in zip(machine.servers, machine.engines, strict=True):
                server.behind.inspect = partial(answer_bytes, Inspector(engine))
            assert isinstance(machine.cluster, Inspectable)
            ask = machine.cluster.inspection.inspect
            assert (await ask(Flush())).missing == ()
            assert [each.reason for each in (await ask(Look())).partitions] == ["", ""]
            assert (await ask(Scan(keys.INVOCATION, keys.JOURNAL, 10))).rows == []
            assert await machine.cluster.pinned_counts() == {}
            await machine.servers[1].close()
            up, down = (await ask(Look())).partitions
            assert (up.reason, down.placement.index) == ("", 1)
            assert down.reason
            with pytest.raises(StoreFailed, match="partition 1 is down"):
                await ask(CountPinned())

    asyncio.run(main())
