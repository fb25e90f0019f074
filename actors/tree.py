"""The supervision tree, for a look: every actor with its state, age, restarts, last error and mailbox.

Reads the actor system and the partition's tables in memory; nothing here touches the store.
"""

from itertools import islice
from typing import Final, TypeAlias

import msgspec

from perdure.actors.cell import ActorInfo, Cell
from perdure.actors.engine import Engine
from perdure.actors.partition import Partition
from perdure.journal.inspecting import Tree, TreeNode
from perdure.journal.records import Address

STRATEGY: Final = "one_for_one"  # an object that fails is restarted alone, and so is the partition


_Objects: TypeAlias = dict[str, tuple[Address, Cell]]


def tree(engine: Engine, limit: int) -> Tree:
    """The first ``limit`` actors, parents before their children."""
    partition = engine.partition
    objects = {} if partition is None else _objects(partition)
    infos = islice(engine.system.iter_actors(), limit)
    index = engine.placement.index
    options = engine.options.partition
    return Tree(
        strategy=STRATEGY,
        restart_limit=options.restart_limit,
        restart_window_s=options.restart_window_s,
        partition_restarts=engine.restart_count,
        down=engine.health(),
        actor_count=0 if partition is None else 1 + len(partition.directory),
        actors=[_node(each, index, partition, objects) for each in infos],
    )


def _objects(partition: Partition) -> _Objects:
    """By the address that the actor system shows."""
    return {
        str(cell._aaddr): (address, cell) for address, cell in partition.directory.iter_actors()
    }


def _node(info: ActorInfo, index: int, partition: Partition | None, objects: _Objects) -> TreeNode:
    node = TreeNode(
        actor=info.class_name,
        level=info.level,
        address=info.address,
        state=info.state,
        age_s=info.age_s,
        restarts=info.restarts,
        last_error=info.last_error,
        mailbox_depth=info.mailbox_depth,
        partition=index,
    )
    found = objects.get(info.address)
    if partition is None or found is None:
        return node
    address, cell = found
    past = partition.directory.past_failures(address)
    return msgspec.structs.replace(
        node,
        service=address[0],
        key=address[1],
        restarts=node.restarts + past.count,
        last_error=node.last_error or past.last_error,
        attempt_count=partition.attempts.count_of(cell),
        waiting_count=partition.tables.waiting_count(address),
    )
