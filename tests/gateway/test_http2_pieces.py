"""Where the bytes of an HTTP/2 connection are cut, and which frames are taken out."""

from itertools import pairwise

from hyperframe.frame import DataFrame, Frame, GoAwayFrame, PingFrame
from hypothesis import given
from hypothesis import strategies as st

from perdure.gateway.http2_pieces import Goodbye, Pieces

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
PIECE_BYTES = 4096


def data(size: int) -> Frame:
    return DataFrame(1, data=b"x" * size)


def goodbye(code: int) -> Frame:
    return GoAwayFrame(0, last_stream_id=3, error_code=code, additional_data=b"why")


def taken(pieces: Pieces) -> list[bytes | Goodbye]:
    return list(iter(pieces.take, None))


@given(
    st.lists(
        st.one_of(st.integers(0, 9000).map(data), st.integers(0, 9).map(goodbye)), max_size=12
    ),
    st.lists(st.integers(0, 40_000), max_size=5),
)
def test_all_but_goodbyes_comes_out_as_it_came_in_small_pieces(
    frames: list[Frame], cuts: list[int]
) -> None:
    raw = PREFACE + b"".join(each.serialize() for each in frames)
    pieces, out = Pieces(), []
    edges = sorted({0, *(min(cut, len(raw)) for cut in cuts), len(raw)})
    for start, end in pairwise(edges):
        pieces.add(raw[start:end])
        out += taken(pieces)
    assert not pieces
    kept = [each for each in frames if not isinstance(each, GoAwayFrame)]
    cut = [each for each in out if isinstance(each, bytes)]
    assert b"".join(cut) == PREFACE + b"".join(each.serialize() for each in kept)
    codes = [each.error_code for each in frames if isinstance(each, GoAwayFrame)]
    assert [each.error_code for each in out if isinstance(each, Goodbye)] == codes
    whole = {each.serialize() for each in kept}
    assert all(len(piece) <= PIECE_BYTES or piece in whole for piece in cut)


def test_half_a_frame_waits_for_its_rest() -> None:
    pieces = Pieces()
    ping = PingFrame(0, b"12345678").serialize()
    pieces.add(PREFACE[:-1])
    assert taken(pieces) == []
    pieces.add(PREFACE[-1:] + ping[:-1])
    assert taken(pieces) == [PREFACE]
    pieces.add(ping[-1:])
    assert taken(pieces) == [ping]


def test_what_is_too_long_for_a_frame_is_not_waited_for() -> None:
    pieces = Pieces()
    head = b"\xff\xff\xff\0\0\0\0\0\1"
    pieces.add(PREFACE + head)
    assert b"".join(each for each in taken(pieces) if isinstance(each, bytes)) == PREFACE + head
