"""Request and response heads to HPACK and back (RFC 7541). Pure; one encoder and one decoder a connection.

hpack's own encoder searches its table for each field and Huffman-codes each literal, which costs more than
everything else of a request. Here constant fields enter the dynamic table once and nothing is ever evicted,
so a field is one dictionary lookup; what differs in each request is sent as it is.
"""

from typing import Any

from hpack import Decoder
from hpack.table import HeaderTable

from perdure.actors.remote.port import Headers, HttpRequest

_TABLE_BYTES = 4096  # more is never used, whatever the peer allows
_FIRST_DYNAMIC_INDEX = 62
_ENTRY_OVERHEAD_BYTES = 32
_CACHED_HEADS = 64
_CACHED_NAMES = 256

_INDEXED = -1  # enters the table while there is room
_PLAIN = 0x00  # literal without indexing
_NEVER = 0x10  # the same, and no proxy may index it either

# Different in each request: a place in the table would be wasted.
_VOLATILE = frozenset(
    ("x-restate-invocation-id", "x-restate-service-key", "traceparent", "tracestate")
)
_SECRET = frozenset(("authorization", "cookie", "proxy-authorization", "x-restate-jwt-v1"))
# RFC 9113 8.2.2: these are about an HTTP/1 connection; ``host`` is ``:authority``.
_FORBIDDEN = frozenset(
    ("connection", "host", "keep-alive", "proxy-connection", "te", "transfer-encoding", "upgrade")
)
_NAME_CHARACTERS = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz")

_STATIC_NAMES: dict[str, int] = {}
_STATIC_FIELDS: dict[tuple[str, str], bytes] = {}
for _place, (_key, _text) in enumerate(HeaderTable.STATIC_TABLE, 1):
    _STATIC_NAMES.setdefault(_key.decode(), _place)
    _STATIC_FIELDS[(_key.decode(), _text.decode())] = bytes((0x80 | _place,))
_INDEXED_FIELDS = tuple(bytes((0x80 | index,)) for index in range(127))


class MalformedHead(ValueError):
    """A head that HTTP/2 does not allow: the caller's mistake outgoing, the peer's incoming."""


class HeadEncoder:
    """Encodes request heads. h2 sets ``header_table_size`` when the peer changes its setting."""

    def __init__(self, scheme: str, authority: str) -> None:
        self._scheme = _STATIC_FIELDS[(":scheme", scheme)]
        self._authority = authority
        self._names: dict[str, tuple[bytes, int]] = {}
        self._limit = _TABLE_BYTES
        self._size = 0
        self._inserted: dict[tuple[str, str], int] = {}  # its number, from 1
        self._prelude = b""

    @property
    def header_table_size(self) -> int:
        """How many bytes of the peer's table may be used."""
        return self._limit

    @header_table_size.setter
    def header_table_size(self, value: int) -> None:
        limit = min(value, _TABLE_BYTES)
        if limit == self._limit:
            return
        self._limit = limit
        self._size = 0
        self._inserted.clear()
        # Size zero empties the peer's table as we emptied ours; then the new size (RFC 7541 4.2).
        self._prelude = _integer(0x20, 5, 0) + _integer(0x20, 5, limit)

    def encode(self, request: HttpRequest) -> bytes:
        """The header block of ``request``. Raises ``MalformedHead``; the table is then as before."""
        count, size = len(self._inserted), self._size
        parts = [
            self._prelude,
            _STATIC_FIELDS.get((":method", request.method))
            or self._literal(":method", request.method),
            self._scheme,
        ]
        try:
            for name, _ in request.headers:
                if name[:1] == ":":
                    raise _cannot_send(name)
            self._append(parts, ((":authority", self._authority), (":path", request.path)))
            self._append(parts, request.headers)
        except MalformedHead:
            while len(self._inserted) > count:
                self._inserted.popitem()
            self._size = size
            raise
        self._prelude = b""
        return b"".join(parts)

    def _append(self, parts: list[bytes], fields: Headers) -> None:
        inserted = self._inserted
        for field in fields:
            number = inserted.get(field)
            if number is None:
                parts.append(self._literal(*field))
                continue
            index = _FIRST_DYNAMIC_INDEX + len(inserted) - number
            parts.append(_INDEXED_FIELDS[index] if index < 127 else _integer(0x80, 7, index))

    def _literal(self, name: str, value: str) -> bytes:
        prefix, mode = self._names.get(name) or _PSEUDO.get(name) or self._learn(name)
        if "\n" in value or "\r" in value or "\0" in value:
            raise MalformedHead(f"the value of header {name!r} holds a line break or a zero byte")
        text = value.strip().encode()
        length = _integer(0, 7, len(text))
        if mode == _INDEXED:
            size = _ENTRY_OVERHEAD_BYTES + len(name) + len(text)
            if self._size + size <= self._limit:
                self._size += size
                self._inserted[(name, value)] = len(self._inserted) + 1
                return _name(0x40, 6, name) + length + text
        return prefix + length + text

    def _learn(self, name: str) -> tuple[bytes, int]:
        """How a literal of this name begins, and its mode."""
        if name in _FORBIDDEN or not name or not _NAME_CHARACTERS.issuperset(name):
            raise _cannot_send(name)
        mode = _NEVER if name in _SECRET else _PLAIN if name in _VOLATILE else _INDEXED
        learnt = _name(max(mode, _PLAIN), 4, name), mode
        if len(self._names) >= _CACHED_NAMES:
            self._names.clear()
        self._names[name] = learnt
        return learnt


class Head:
    """A decoded response head, or trailers, which have status 0. Shared between streams: never changed."""

    __slots__ = ("content_length", "headers", "status")

    def __init__(self, status: int, headers: Headers, content_length: int | None) -> None:
        self.status = status
        self.headers = headers
        self.content_length = content_length


class HeadDecoder(Decoder):
    """hpack's decoder, which remembers blocks of table indexes alone until the table changes."""

    def __init__(self) -> None:
        super().__init__()
        self._heads: dict[bytes, Head] = {}

    def decode(self, data: bytes, raw: bool = False) -> Any:
        """As hpack's; h2 calls it for the blocks that it assembles itself."""
        self._heads.clear()
        return super().decode(data, raw)

    def head(self, block: bytes) -> Head:
        """Decode one block. Raises hpack's errors where the table is lost, else ``MalformedHead``."""
        known = self._heads.get(block)
        if known is not None:
            return known
        fields = super().decode(block, True)
        # Each byte from 0x80 to 0xfe is one indexed field; such a block leaves the table alone.
        if not block or min(block) < 0x80 or max(block) == 0xFF:
            self._heads.clear()
            return parse_head(fields)
        if len(self._heads) >= _CACHED_HEADS:
            self._heads.clear()
        head = self._heads[block] = parse_head(fields)
        return head


def parse_head(fields: Any) -> Head:
    """Decoded fields (pairs of bytes) as a head; raises ``MalformedHead``."""
    status = 0
    length: int | None = None
    headers: list[tuple[str, str]] = []
    for name, value in fields:
        if (
            name == b":status"
            and not status
            and not headers
            and len(value) == 3
            and value.isdigit()
        ):
            status = int(value)
        elif not name or name[0] == 0x3A or name != name.lower():
            raise MalformedHead(f"response head with field {name!r}: {value!r}")
        else:
            if name == b"content-length":
                if not value.isdigit() or len(value) > 18 or length not in (None, int(value)):
                    raise MalformedHead(f"response head with content-length {value!r}")
                length = int(value)
            headers.append((name.decode("latin-1"), value.decode("latin-1")))
    if status and status < 100:
        raise MalformedHead(f"response head with status {status}")
    return Head(status, tuple(headers), length)


def _cannot_send(name: str) -> MalformedHead:
    return MalformedHead(
        f"header {name!r} cannot be sent over HTTP/2: names are lower-case tokens and are not about the "
        f"connection. Remove it from the deployment's additional headers"
    )


def _name(pattern: int, prefix_bits: int, name: str) -> bytes:
    index = _STATIC_NAMES.get(name)
    if index is not None:
        return _integer(pattern, prefix_bits, index)
    text = name.encode()
    return bytes((pattern,)) + _integer(0, 7, len(text)) + text


def _integer(pattern: int, prefix_bits: int, value: int) -> bytes:
    """RFC 7541 5.1: ``value`` in the low ``prefix_bits`` of the first byte, more bytes where it is large."""
    most = (1 << prefix_bits) - 1
    if value < most:
        return bytes((pattern | value,))
    octets = bytearray((pattern | most,))
    value -= most
    while value >= 128:
        octets.append(value & 127 | 128)
        value >>= 7
    octets.append(value)
    return bytes(octets)


_PSEUDO = {name: (_name(_PLAIN, 4, name), _INDEXED) for name in (":method", ":authority", ":path")}
