"""Trees of what is awaited: how deep, how large, and what becomes of those that are too deep."""

import pytest

from perdure.journal.attempt import Awaiting, AwaitingOn, Combinator, Suspended
from perdure.journal.awaiting import has_leaf
from perdure.journal.errors import ProtocolError
from perdure.journal.wire import messages_pb2 as pb
from perdure.journal.wire.control import control_frame, read_control
from perdure.journal.wire.frames import FrameReader, FrameType, RawFrame
from perdure.journal.wire.futures import MOST_BYTES, MOST_KEPT_NESTING

ALL = Combinator.ALL_COMPLETED


def chain(depth: int, leaf: int = 1) -> bytes:
    """A Future of ``depth`` levels, each with two futures below and completion ``leaf`` + its height."""
    payload = b""
    for height in range(depth):
        nested = [payload, b"\x12\x01\x11"] if height else []
        payload = pb.Future(
            waiting_completions=[leaf + height], nested_futures=nested, combinator_type=2
        ).SerializeToString()
    return payload


def read(payload: bytes) -> Awaiting:
    suspension = pb.Suspension(awaiting_on=payload).SerializeToString()
    control = read_control(RawFrame(FrameType.SUSPENSION, 0, suspension), 7)
    assert isinstance(control, Suspended)
    return control.awaiting


def nodes_of(tree: Awaiting) -> list[tuple[int, Awaiting]]:
    found = [(1, tree)]
    for depth, node in found:
        found.extend([(depth + 1, child) for child in node.nested])
    return found


def test_children_keep_their_order() -> None:
    below = tuple(Awaiting(ALL, (n,), (), (Awaiting(ALL, (n + 10,)),)) for n in range(5))
    tree = Awaiting(Combinator.FIRST_COMPLETED, (), (1,), below)
    (raw,) = FrameReader(1 << 20).feed(control_frame(AwaitingOn(tree), 7))
    assert read_control(raw, 7) == AwaitingOn(tree)


def test_a_tree_is_kept_as_it_is_down_to_a_depth_all_can_recurse_to() -> None:
    tree = read(chain(MOST_KEPT_NESTING))
    found = nodes_of(tree)
    assert max(depth for depth, _ in found) == MOST_KEPT_NESTING
    chained = [node for _, node in found if node.completions]
    assert [node.completions for node in chained] == [(n,) for n in range(MOST_KEPT_NESTING, 0, -1)]
    assert all(node.combinator is ALL for node in chained)


@pytest.mark.parametrize("depth", [MOST_KEPT_NESTING + 1, MOST_KEPT_NESTING + 2, 500, 1_000])
def test_leaves_further_down_join_the_deepest_that_is_kept(depth: int) -> None:
    found = nodes_of(read(chain(depth)))
    assert max(depth for depth, _ in found) == MOST_KEPT_NESTING
    bottom = next(node for depth, node in found if depth == MOST_KEPT_NESTING and node.completions)
    assert bottom.combinator is Combinator.UNKNOWN
    assert bottom.nested == ()
    joined = depth - MOST_KEPT_NESTING
    assert bottom.completions == tuple(range(joined + 1, 0, -1))
    assert bottom.signals == (17,) * joined
    others = [node for depth, node in found if depth < MOST_KEPT_NESTING and node.completions]
    assert all(node.combinator is ALL for node in others)


def test_a_tree_deeper_than_the_protocol_allows_is_refused() -> None:
    with pytest.raises(ProtocolError) as caught:
        read(chain(1_001))
    assert str(caught.value).startswith(
        "[RT0025] suspension (0x0001): expected futures nested at most 1000 deep"
    )


def test_our_own_side_may_nest_deeper_than_protobuf_itself_would() -> None:
    tree = Awaiting(ALL, (1,))
    for n in range(2, 500):
        tree = Awaiting(ALL, (n,), (), (tree,))
    for version in (6, 7):
        (raw,) = FrameReader(1 << 20).feed(control_frame(Suspended(tree, 0), version))
        control = read_control(raw, version)
        assert isinstance(control, Suspended)
        completions = [n for _, node in nodes_of(control.awaiting) for n in node.completions]
        assert completions == list(range(499, 0, -1))


@pytest.mark.parametrize("version", [6, 7])
@pytest.mark.parametrize("type", [FrameType.SUSPENSION, FrameType.AWAITING_ON])
def test_more_than_anyone_awaits_is_refused_unread(type: FrameType, version: int) -> None:
    if version == 6 and type is FrameType.AWAITING_ON:
        return
    with pytest.raises(ProtocolError, match=r"^\[RT0012\] .*at most 1048576 bytes"):
        read_control(RawFrame(type, 0, b"\x22\x00" * (MOST_BYTES // 2 + 1)), version)


def test_a_wide_tree_is_read() -> None:
    tree = read(pb.Future(waiting_completions=range(1, 50_001)).SerializeToString())
    assert len(tree.completions) == 50_000
    wide = read(pb.Future(nested_futures=[b"\x08\x01"] * 20_000).SerializeToString())
    assert len(wide.nested) == 20_000
    assert has_leaf(wide)


def test_lists_may_be_packed_or_not() -> None:
    unpacked = b"\x08\x01\x08\x02\x10\x11"
    assert read(unpacked) == Awaiting(Combinator.UNKNOWN, (1, 2), (17,))
