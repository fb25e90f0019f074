"""Frames as bytes, and how h2 is set up beside the code that cuts them (RFC 9113 4 and 6)."""

import struct

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.settings import SettingCodes, Settings

from perdure.actors.remote.http2_options import Http2Options

DATA, HEADERS, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 4, 6, 7, 8, 9
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITY = 1, 1, 4, 8, 32

FRAME_HEADER_BYTES = 9
MAX_FRAME_BYTES = 16384  # what is allowed unless settings say otherwise; ours never do
DEFAULT_WINDOW_BYTES = 65535
MAX_STREAM_ID = 2**31 - 1

_pack = struct.Struct(">HBBBL").pack
unpack_header = struct.Struct(">HBBBL").unpack_from  # size / 256, size % 256, type, flags, stream


def frame_header(size: int, kind: int, flags: int, stream_id: int) -> bytes:
    """The nine bytes before a payload of ``size`` bytes."""
    return _pack(size >> 8, size & 255, kind, flags, stream_id)


def new_h2(options: Http2Options) -> H2Connection:
    h2 = H2Connection(
        H2Configuration(
            client_side=True,
            header_encoding=None,
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
        )
    )
    h2.local_settings = Settings(
        client=True,
        initial_values={
            SettingCodes.ENABLE_PUSH: 0,
            SettingCodes.INITIAL_WINDOW_SIZE: options.stream_window_bytes,
            SettingCodes.MAX_HEADER_LIST_SIZE: H2Connection.DEFAULT_MAX_HEADER_LIST_SIZE,
        },
    )
    return h2


def code_name(code: int) -> str:
    try:
        return ErrorCodes(code).name
    except ValueError:
        return f"error {code:#x}"
