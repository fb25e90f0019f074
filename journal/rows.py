"""Whether a row holds what its table says; for `perdure doctor`. Decodes, changes nothing."""

import struct

import msgspec

from perdure.journal import keys, outbox, records
from perdure.journal.entries import decode_segment
from perdure.journal.schedules_records import decode_schedule


def check_row(key: bytes, value: bytes) -> str | None:
    """What is wrong with a row, or None."""
    tag = key[:1]
    try:
        if tag == keys.INVOCATION:
            records.decode_invocation(value)
        elif tag == keys.JOURNAL:
            decode_segment(value)
        elif tag == keys.INBOX:
            records.decode_inbox_entry(value)
        elif tag == keys.PROMISE:
            records.decode_promise(value)
        elif tag == keys.STATE:
            keys.split_state(key)
        elif tag == keys.TIMER:
            keys.split_timer(key)
            keys.unpack_number(value)
        elif tag == keys.EXPIRY:
            keys.split_expiry(key)
        elif tag == keys.OUTBOX:
            keys.split_outbox(key)
            outbox.decode(value)
        elif tag == keys.DEDUP:
            keys.unpack_number(value)
        elif tag == keys.SCHEDULE:
            decode_schedule(value)
        elif tag not in (keys.META, keys.ACTIVE):
            return f"row {key.hex()}: there is no table {tag.hex()}"
    except (msgspec.MsgspecError, ValueError, IndexError, struct.error) as error:
        return f"row {key.hex()}: {error}"
    return None
