"""What an invocation awaits, to bytes and back: a tree from V7 on, flat lists before.

A tree comes from outside and may be deep, so nothing here recurses. Rules: service protocol 3.3, 5.8.
"""

from collections.abc import Sequence

from perdure.journal.attempt import Awaiting, Combinator
from perdure.journal.awaiting import has_leaf
from perdure.journal.errors import ProtocolError
from perdure.journal.wire import messages_pb2 as pb
from perdure.journal.wire.frames import RawFrame, frame_name
from perdure.journal.wire.shared import parse, refuse

MOST_NESTING = 1_000  # what the protocol allows, counting the root
# What is kept of it: leaves further down join their ancestor here, which then combines them as UNKNOWN.
# That resumes early rather than late, which is safe, and spares all others a deep recursion.
MOST_KEPT_NESTING = 100
# Room for 300,000 awaited results; more would only be work that a hostile peer causes.
MOST_BYTES = 1 << 20

_COMBINATORS = {int(each): each for each in Combinator}


class _Node:
    """A future on its way from bytes to ``Awaiting``, or back."""

    __slots__ = ("combinator", "completions", "depth", "nested", "parent", "signals")

    def __init__(self, depth: int, parent: "_Node | None") -> None:
        self.depth = depth
        self.parent = parent
        self.combinator = Combinator.UNKNOWN
        self.completions: list[int] = []
        self.signals: list[int | str] = []
        self.nested: list[Awaiting] = []  # last one first

    def build(self) -> Awaiting:
        return Awaiting(
            self.combinator, tuple(self.completions), tuple(self.signals), tuple(self.nested[::-1])
        )


def check_size(raw: RawFrame) -> None:
    if len(raw.payload) > MOST_BYTES:
        refuse(
            raw.type, f"at most {MOST_BYTES} bytes of what is awaited", f"{len(raw.payload)} came"
        )


def read_tree(tree: bytes, type: int) -> Awaiting:
    """The tree of a frame of this type. Raises ProtocolError: RT0012, or RT0025 where it is too deep."""
    message, combinator = _parse(tree, type)
    if not message.nested_futures:
        return _awaiting(combinator, message, ())
    root = _Node(1, None)
    found = [(root, tree)]  # parents before children; grows below
    for node, payload in found:
        message, combinator = _parse(payload, type)
        _fill(node, combinator, message)
        for child in message.nested_futures:
            if node.depth == MOST_NESTING:
                raise ProtocolError(
                    f"[RT0025] {frame_name(type)}: expected futures nested at most {MOST_NESTING}"
                    " deep, but they go on; await fewer results inside one another"
                )
            found.append((_Node(node.depth + 1, node), child))
    for node, _ in reversed(found):
        if node.parent is not None and node.depth <= MOST_KEPT_NESTING:
            node.parent.nested.append(node.build())
    return root.build()


def _parse(tree: bytes, type: int) -> tuple[pb.Future, Combinator]:
    message = parse(pb.Future.FromString, RawFrame(type, 0, tree))
    combinator = _COMBINATORS.get(message.combinator_type)
    if combinator is None:
        refuse(type, "a combinator from 0 to 4", f"{message.combinator_type} came")
    return message, combinator


def _awaiting(
    combinator: Combinator, message: pb.Future | pb.Suspension, nested: tuple[Awaiting, ...]
) -> Awaiting:
    return Awaiting(
        combinator,
        tuple(message.waiting_completions),
        (*message.waiting_signals, *message.waiting_named_signals),
        nested,
    )


def _fill(node: _Node, combinator: Combinator, message: pb.Future) -> None:
    kept = node
    if node.depth > MOST_KEPT_NESTING:
        assert node.parent is not None
        if node.depth > MOST_KEPT_NESTING + 1:
            node.parent = node.parent.parent  # what it gave its leaves to
            assert node.parent is not None
        kept = node.parent
        combinator = Combinator.UNKNOWN
    kept.combinator = combinator
    kept.completions.extend(message.waiting_completions)
    kept.signals.extend(message.waiting_signals)
    kept.signals.extend(message.waiting_named_signals)


def require_leaf(awaiting: Awaiting, type: int) -> Awaiting:
    if not has_leaf(awaiting):
        refuse(type, "something to wait for", "what is awaited is empty")
    return awaiting


def _levels(awaiting: Awaiting) -> list[tuple[Awaiting, int]]:
    """All nodes, parents before children, each with the place of its parent (-1: none)."""
    found = [(awaiting, -1)]
    for place, (node, _) in enumerate(found):
        found.extend([(child, place) for child in node.nested])
    return found


def _split(signals: Sequence[int | str]) -> tuple[list[int], list[str]]:
    indexes = [each for each in signals if not isinstance(each, str)]
    return indexes, [each for each in signals if isinstance(each, str)]


def write_tree(awaiting: Awaiting) -> bytes:
    """The message Future. Raises ValueError where a field does not fit."""
    if not awaiting.nested:
        return _future(awaiting, ())
    found = _levels(awaiting)
    nested: list[list[bytes]] = [[] for _ in found]  # last one first
    payload = b""
    for place in range(len(found) - 1, -1, -1):
        node, parent = found[place]
        payload = _future(node, nested[place][::-1])
        if parent >= 0:
            nested[parent].append(payload)
    return payload


def _future(node: Awaiting, nested: Sequence[bytes]) -> bytes:
    indexes, names = _split(node.signals)
    return pb.Future(
        waiting_completions=node.completions,
        waiting_signals=indexes,
        waiting_named_signals=names,
        nested_futures=nested,
        combinator_type=node.combinator,
    ).SerializeToString()


def leaves(awaiting: Awaiting) -> tuple[list[int], list[int], list[str]]:
    """Completion ids, signal indexes and names of the whole tree."""
    nodes = [node for node, _ in _levels(awaiting)]
    signals = [each for node in nodes for each in node.signals]
    return [each for node in nodes for each in node.completions], *_split(signals)


def from_leaves(message: pb.Suspension) -> Awaiting:
    """Flat lists, as V5 and V6 have them: whichever comes first ends the wait."""
    return _awaiting(Combinator.FIRST_COMPLETED, message, ())
