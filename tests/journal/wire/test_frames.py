import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.journal.errors import ProtocolError
from perdure.journal.wire.frames import FrameReader, FrameType, RawFrame, frame, frame_name

u16 = st.integers(0, 0xFFFF)
raw_frames = st.builds(RawFrame, u16, u16, st.binary(max_size=40))
THREE = [RawFrame(0x0400, 0, b"abc"), RawFrame(3, 0, b""), RawFrame(0x0005, 0x8000, b"\x00" * 20)]


def wire(frames: list[RawFrame]) -> bytes:
    return b"".join([frame(each.type, each.payload, each.flags) for each in frames])


@given(st.lists(raw_frames, max_size=6), st.lists(st.integers(0, 300), max_size=12))
def test_it_does_not_matter_where_the_stream_is_cut(
    frames: list[RawFrame], cuts: list[int]
) -> None:
    data = wire(frames)
    places = sorted({0, len(data), *(each % (len(data) + 1) for each in cuts)})
    reader = FrameReader(100)
    read: list[RawFrame] = []
    for start, end in zip(places, [*places[1:], len(data)], strict=True):
        read += reader.feed(data[start:end])
    assert read == frames
    assert reader.is_between_frames


def test_a_stream_may_come_byte_by_byte() -> None:
    reader = FrameReader(100)
    data = wire(THREE)
    ends = {11, 19, len(data)}
    read = []
    for count, byte in enumerate(data, 1):
        read += reader.feed(bytes([byte]))
        assert reader.is_between_frames == (count in ends)
    assert read == THREE


def test_a_stream_may_be_cut_at_any_two_places() -> None:
    data = wire(THREE)
    for first in range(len(data) + 1):
        for second in range(first, len(data) + 1):
            reader = FrameReader(100)
            parts = data[:first], data[first:second], data[second:]
            assert [each for part in parts for each in reader.feed(part)] == THREE


def test_an_empty_stream_is_between_frames() -> None:
    reader = FrameReader(0)
    assert reader.is_between_frames
    assert reader.feed(b"") == []
    assert reader.feed(frame(3, b"")) == [RawFrame(3, 0, b"")]
    assert reader.is_between_frames


def test_a_frame_over_the_limit_is_refused_by_its_header() -> None:
    assert FrameReader(5).feed(frame(0x0400, b"12345"))
    with pytest.raises(ProtocolError) as caught:
        FrameReader(5).feed(frame(0x0400, b"123456")[:8])
    assert str(caught.value) == (
        "[RT0003] input (0x0400): a frame of 6 bytes is over the limit of 5 bytes"
    )


def test_after_a_frame_over_the_limit_the_stream_is_over() -> None:
    reader = FrameReader(5)
    for data in (frame(0x0400, b"123456"), b"", frame(3, b"")):
        with pytest.raises(ProtocolError, match=r"^\[RT0003\]"):
            reader.feed(data)
    assert not reader.is_between_frames


def test_names_are_for_people() -> None:
    assert frame_name(FrameType.SET_STATE) == frame_name(0x0403) == "set_state (0x0403)"
    assert frame_name(0x7777) == "0x7777"
