"""Serdes: payload bytes to Python values and back; and the two functions that blame the right one.

Which JSON library reads which type hint is decided in `perdure.codecs`. None is written as no bytes
at all, and no bytes are read as None.
"""

import inspect
from abc import ABC, abstractmethod
from functools import lru_cache
from types import UnionType
from typing import Any, Generic, TypeVar, Union, get_args, get_origin

import msgspec

from perdure.codecs import decode_json, decoder_for, encode_json, is_pydantic
from perdure.journal.errors import TerminalError, UsageError

__all__ = [
    "BytesSerde",
    "DefaultSerde",
    "JsonSerde",
    "MsgspecJsonSerde",
    "PydanticJsonSerde",
    "Serde",
    "is_pydantic",
]

T = TypeVar("T")

_BYTES: frozenset[Any] = frozenset((bytes, bytearray, memoryview))


# ---- type hints ---------------------------------------------------------------------------------


def type_name(hint: Any) -> str:
    """A hint as a user would write it."""
    if isinstance(hint, type) and not get_args(hint):
        return hint.__qualname__
    return str(hint).replace("typing.", "")


def is_optional(hint: Any) -> bool:
    """Whether None is one of the values that ``hint`` allows."""
    if hint is None or hint is type(None) or hint is Any or hint is object:
        return True
    origin = get_origin(hint)
    return (origin is Union or origin is UnionType) and type(None) in get_args(hint)


def _is_bytes(hint: Any) -> bool:
    if hint is bytes:
        return True
    args = get_args(hint)
    return is_optional(hint) and len(args) == 2 and any(map(_is_bytes, args))


# ---- serdes -------------------------------------------------------------------------------------


class Serde(ABC, Generic[T]):
    """One way to write values of a type and to read them again."""

    @abstractmethod
    def deserialize(self, buf: bytes) -> T | None:
        """The value that was serialized to ``buf``, which may be empty. Errors are ValueErrors."""

    @abstractmethod
    def serialize(self, obj: T | None) -> bytes:
        """The same value must give the same bytes: a replay compares them."""


class BytesSerde(Serde[bytes]):
    """Bytes as they are."""

    def deserialize(self, buf: bytes) -> bytes | None:
        return buf

    def serialize(self, obj: bytes | None) -> bytes:
        if type(obj) is bytes:
            return obj
        if obj is None:
            return b""
        if type(obj) in _BYTES:
            return bytes(obj)
        raise TypeError(f"expected bytes, got {type(obj).__qualname__}")


class JsonSerde(Serde[T]):
    """JSON without a type: dicts, lists and scalars."""

    def deserialize(self, buf: bytes) -> T | None:
        return decode_json(buf) if buf else None

    def serialize(self, obj: T | None) -> bytes:
        return b"" if obj is None else encode_json(obj)


class DefaultSerde(Serde[T]):
    """JSON by type hint; raw bytes where the hint is ``bytes``; plain JSON without a hint.

    Understood hints: msgspec structs, pydantic models, dataclasses, TypedDict, NamedTuple, enums,
    datetime, UUID, Decimal, and containers and unions of them.
    """

    def __init__(self, type_hint: type[T] | None = None) -> None:
        self.type_hint = type_hint
        self._raw = _is_bytes(type_hint)
        self._optional = is_optional(type_hint)
        untyped = type_hint is None or type_hint is inspect.Signature.empty
        self._decode = decode_json if untyped else decoder_for(type_hint)

    def with_maybe_type(self, type_hint: type[T] | None = None) -> "DefaultSerde[T]":
        """The serde for ``type_hint``. Cached by hint; ``self`` does not change."""
        try:
            return _default_serde(type_hint)  # type: ignore[arg-type]
        except TypeError:  # an unhashable hint
            return DefaultSerde(type_hint)

    def deserialize(self, buf: bytes) -> T | None:
        if self._raw:
            return buf if buf or not self._optional else None  # type: ignore[return-value]
        return self._decode(buf) if buf else None

    def serialize(self, obj: T | None) -> bytes:
        if obj is None:
            return b""
        if type(obj) in _BYTES:
            if self._raw:
                return bytes(obj)  # type: ignore[call-overload, no-any-return]
            raise TypeError(f"bytes where the type hint is {type_name(self.type_hint)}")
        return encode_json(obj)


@lru_cache(maxsize=4096)
def _default_serde(type_hint: Any) -> DefaultSerde[Any]:
    return DefaultSerde(type_hint)


class PydanticJsonSerde(Serde[T]):
    """JSON of one pydantic model class."""

    def __init__(self, model: type[T]) -> None:
        self.model = model
        self._decode = decoder_for(model)

    def deserialize(self, buf: bytes) -> T | None:
        return self._decode(buf) if buf else None

    def serialize(self, obj: T | None) -> bytes:
        return b"" if obj is None else encode_json(obj)


class MsgspecJsonSerde(Serde[T]):
    """JSON of one msgspec struct, or of any type that msgspec understands."""

    def __init__(self, model: type[T]) -> None:
        self.model = model
        self._decode = msgspec.json.Decoder(model).decode

    def deserialize(self, buf: bytes) -> T | None:
        return self._decode(buf) if buf else None

    def serialize(self, obj: T | None) -> bytes:
        return b"" if obj is None else encode_json(obj)


DEFAULT: DefaultSerde[Any] = DefaultSerde()
"""The one instance behind every ``serde=`` that the user left out."""


# ---- reading and writing with blame -------------------------------------------------------------


class UnreadableError(UsageError, ValueError):
    """Bytes that do not fit: for programs that catch what their decoder would raise."""


class UnwritableError(UsageError, TypeError, ValueError):
    """A value that has no form: for programs that catch what their encoder would raise."""


def write_value(serde: Serde[Any], value: Any, place: str, name: str = "") -> bytes:
    """Serialize; ``place`` and ``name`` say where in an error, as in "state" and "count".

    Raises UnwritableError that names type, place and remedy; lets a TerminalError of the serde pass.
    """
    try:
        buf = serde.serialize(value)
    except TerminalError:
        raise
    except Exception as e:
        raise UnwritableError(_unserializable(serde, value, _where(place, name), e)) from e
    if type(buf) is bytes:
        return buf
    if type(buf) in _BYTES:
        return bytes(buf)
    raise UnwritableError(
        f"{type(serde).__qualname__}.serialize returned {type(buf).__qualname__} for "
        f"{_where(place, name)}; it must return bytes"
    )


def read_value(serde: Serde[Any], buf: bytes, place: str, name: str = "") -> Any:
    """Deserialize what was stored or answered. Raises UnreadableError that names place and type."""
    try:
        return serde.deserialize(buf)
    except TerminalError:
        raise
    except Exception as e:
        raise UnreadableError(
            f"cannot read {_where(place, name)} as {_expected(serde)}: {reason(e)}; the bytes begin "
            f"with {buf[:60]!r}. Give the type_hint or serde that it was written with."
        ) from e


def _where(place: str, name: str) -> str:
    return f"{place} '{name}'" if name else place


def _expected(serde: Serde[Any]) -> str:
    hint = getattr(serde, "type_hint", None) or getattr(serde, "model", None)
    return type_name(hint) if hint is not None else type(serde).__qualname__


def _unserializable(serde: Serde[Any], value: Any, where: str, error: Exception) -> str:
    kind = type(value).__qualname__
    if inspect.isawaitable(value):
        if inspect.iscoroutine(value):
            value.close()  # or Python warns about it a second time
        return f"{where} is a {kind} that was not awaited: await it and use its result"
    if type(value) in _BYTES and isinstance(serde, DefaultSerde):
        return (
            f"{where} is {kind}, but nothing says that it is raw: annotate it as bytes, or give "
            "type_hint=bytes or serde=BytesSerde()"
        )
    return (
        f"cannot serialize {where}, a value of type {kind}, with {type(serde).__qualname__}: {error}. "
        "Use a dataclass, a msgspec or pydantic model or JSON-like values, or give a serde"
    )


def reason(error: Exception) -> str:
    """What a decoder complained about, on one line."""
    return " ".join(str(error).split()) or type(error).__qualname__
