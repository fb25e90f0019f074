"""What supervisor, workers and watchdog tell each other: msgspec bytes, one message a packet, on a line
(a pair of Unix sockets) between each two, which the child inherits.

Not inside Thespian's messages: where both sides speak at once those lose their order, and may come 35
seconds late (spec/thespian.md 5, traps 1 and 3). Older versions need no care: all processes of a tree are
forks of one program.
"""

from typing import Final, TypeAlias

import msgspec

from perdure.actors.processes.status import ProcessTree


class Peer(msgspec.Struct, frozen=True):
    """A worker that is up, as it is introduced to the others. ``socket``: the path it may listen on."""

    name: str
    kind: str
    index: int
    epoch: int
    socket: str
    info: dict[str, str] = {}


# ---- supervisor to worker


class Init(msgspec.Struct, frozen=True, tag=True):
    """Begin. The plan, which has the rest, was inherited."""

    name: str
    epoch: int
    socket: str


class Ping(msgspec.Struct, frozen=True, tag=True):
    """Answered on the loop, so that a loop that hangs is noticed."""


class Introduction(msgspec.Struct, frozen=True, tag=True):
    """All who are up. ``down``: who is not expected back soon, and why, by name."""

    peers: tuple[Peer, ...]
    down: dict[str, str] = {}


class TreeAnswer(msgspec.Struct, frozen=True, tag=True):
    id: int
    tree: ProcessTree


class Told(msgspec.Struct, frozen=True, tag=True):
    """What another worker tells everybody; answered by Heard once it is done."""

    sender: str
    sender_epoch: int
    id: int
    body: bytes


class BroadcastDone(msgspec.Struct, frozen=True, tag=True):
    id: int


class Stop(msgspec.Struct, frozen=True, tag=True):
    """Drain and end."""


ToWorker: TypeAlias = Init | Ping | Introduction | TreeAnswer | Told | BroadcastDone | Stop

# ---- worker to supervisor


class Ready(msgspec.Struct, frozen=True, tag=True):
    name: str
    epoch: int
    info: dict[str, str]


class Failed(msgspec.Struct, frozen=True, tag=True):
    """It can't start. ``is_refused``: by what the user asked for; another try can't help.

    ``is_of_store``: by its store; a first start is refused then, but later ones are tried again.
    """

    name: str
    epoch: int
    reason: str
    is_refused: bool
    is_of_store: bool = False


class Pong(msgspec.Struct, frozen=True, tag=True):
    name: str
    epoch: int


class AskTree(msgspec.Struct, frozen=True, tag=True):
    name: str
    epoch: int
    id: int


class Broadcast(msgspec.Struct, frozen=True, tag=True):
    name: str
    epoch: int
    id: int
    body: bytes


class Heard(msgspec.Struct, frozen=True, tag=True):
    """What ``sender`` told everybody is done here."""

    name: str
    epoch: int
    sender: str
    sender_epoch: int
    id: int


ToSupervisor: TypeAlias = Ready | Failed | Pong | AskTree | Broadcast | Heard

# ---- supervisor to watchdog; the other way goes STOP


class Beat(msgspec.Struct, frozen=True, tag=True):
    """The supervisor lives. Sent first when it starts."""

    supervisor_pid: int
    admin_pid: int


class Up(msgspec.Struct, frozen=True, tag=True):
    """Every worker has started, or is down."""

    peers: tuple[Peer, ...]
    down: dict[str, str]  # name to reason


class Refused(msgspec.Struct, frozen=True, tag=True):
    reason: str
    is_of_store: bool = False


class Escalated(msgspec.Struct, frozen=True, tag=True):
    reason: str


class Drained(msgspec.Struct, frozen=True, tag=True):
    """Every worker has ended in order."""


ToWatchdog: TypeAlias = Beat | Up | Refused | Escalated | Drained
STOP = b"stop"
LIMIT_BYTES: Final = 1 << 17  # of a message; the default of a socket's buffer is larger

encode = msgspec.msgpack.Encoder().encode
decode_for_worker = msgspec.msgpack.Decoder(ToWorker).decode
decode_for_supervisor = msgspec.msgpack.Decoder(ToSupervisor).decode
decode_for_watchdog = msgspec.msgpack.Decoder(ToWatchdog).decode
