"""The tree of processes as operators see it: what `perdure tree` and the admin API show. Shapes only."""

from typing import Protocol, runtime_checkable

import msgspec


class ProcessStatus(msgspec.Struct, frozen=True):
    """One worker. ``state``: starting, up, waiting (for its restart), down, stopping, stopped."""

    name: str
    kind: str
    state: str
    epoch: int
    pid: int = 0  # 0: no process now
    age_ms: int = 0  # of this process
    restart_count: int = 0  # since the tree was started
    last_error: str = ""
    strategy: str = ""


class ProcessTree(msgspec.Struct, frozen=True):
    """Everything above the objects. ``restart_count``: how often the watchdog started the tree anew."""

    watchdog_pid: int
    admin_pid: int
    supervisor_pid: int
    restart_count: int
    last_error: str
    workers: tuple[ProcessStatus, ...]


@runtime_checkable
class InProcesses(Protocol):
    """A runtime whose partitions are processes of a tree."""

    async def process_tree(self) -> ProcessTree: ...
