"""What one partition tells another: the messages of the outbox, as they are stored and sent.

A message is written in the commit that decides it, under the next number for its destination (1, 2, 3 ...
without a gap, counted in the row ``keys.outbox_last``), and sent after that. The receiver stores the last
number that took effect (``keys.dedup``), drops what it has had and refuses a gap. What a message does on
arrival is in delivery.py. Field orders and tags are on disk for ever, as in ``records``; their meaning:
docs/journal-format.md.
"""

from typing import TypeAlias

import msgspec

from perdure.journal.entries import Input, Record, Result, Signal
from perdure.journal.records import Invocation, Waiter


class Invoke(Record, frozen=True, tag="invoke"):
    """Begin this invocation, or let its waiters wait for the one that is there.

    ``invocation``: as the sender would begin it, with the sender's clock.
    """

    invocation: Invocation
    input: Input


class Attach(Record, frozen=True, tag="attach"):
    """Answer ``waiter`` with the end of an invocation; ``waits`` False: with what is known now."""

    waiter: Waiter
    waits: bool


class Answer(Record, frozen=True, tag="answer"):
    """What a waiter waited for. ``about``: the invocation that this is the result of."""

    waiter: Waiter
    result: Result
    about: bytes


class Send(Record, frozen=True, tag="signal"):
    signal: Signal


class Kill(Record, frozen=True, tag="kill"):
    """Its caller was killed."""


Message: TypeAlias = Invoke | Attach | Answer | Send | Kill


class Outgoing(Record, frozen=True):
    """A row of the outbox. ``sender``: 8 bytes, the partition key of who sends; ``to``: an id, 24 bytes."""

    sender: bytes
    to: bytes
    message: Message


encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(Outgoing).decode
