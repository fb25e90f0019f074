"""Where settings come from: a TOML file, the environment, flags; weakest first, then one struct.

Reads the file and the given mapping, nothing else. A key that nobody knows is an error that names
the nearest one, so that a misspelled limit is never silently the default.
"""

import difflib
import ipaddress
import math
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import msgspec.inspect

from perdure.gateway.durations import format_duration, format_size, parse_duration_ms
from perdure.gateway.durations import parse_size_bytes as _size
from perdure.gateway.settings import Kind, Settings, SettingsError

PREFIX = "PERDURE_"
# Read by the command line itself; no settings of the server.
CLIENT_VARIABLES = frozenset(
    {"PERDURE_CONFIG", "PERDURE_INGRESS_URL", "PERDURE_ADMIN_URL", "PERDURE_ADMIN_TOKEN"}
)
_UNLIMITED = "unlimited"
_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")
_HIGHEST_PORT = 65_535

_S = TypeVar("_S", bound=msgspec.Struct)


class _Found(msgspec.Struct, frozen=True):
    value: object
    origin: str


def load(
    file: Path | None = None,
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, object] | None = None,
) -> Settings:
    """Built-in defaults, then ``file``, then ``environ``, then ``flags`` (dotted keys).

    Raises SettingsError: what was expected, what came, and from where.
    """
    found: dict[str, _Found] = {}
    if file is not None:
        found.update(_from_file(file))
    found.update(_from_environ(environ or {}))
    for key, value in (flags or {}).items():
        found[key] = _Found(value, "the command line")
    known = dict(known_settings())
    for key, each in found.items():
        if key not in known:
            raise SettingsError(_unknown(key, each.origin, list(known)))
    return _build(Settings, "", found, known)


def known_settings() -> Iterator[tuple[str, msgspec.inspect.Field]]:
    """Every setting as its dotted key and its field, in the order of the structs."""
    return _walk(Settings, "")


def _walk(struct: type[msgspec.Struct], prefix: str) -> Iterator[tuple[str, msgspec.inspect.Field]]:
    info = msgspec.inspect.type_info(struct)
    assert isinstance(info, msgspec.inspect.StructType)
    for field in info.fields:
        if isinstance(field.type, msgspec.inspect.StructType):
            yield from _walk(field.type.cls, f"{prefix}{field.encode_name}.")
        else:
            yield prefix + field.encode_name, field


def _build(
    struct: type[_S],
    prefix: str,
    found: Mapping[str, _Found],
    known: Mapping[str, msgspec.inspect.Field],
) -> _S:
    info = msgspec.inspect.type_info(struct)
    assert isinstance(info, msgspec.inspect.StructType)
    values: dict[str, Any] = {}
    for field in info.fields:
        key = prefix + field.encode_name
        if isinstance(field.type, msgspec.inspect.StructType):
            values[field.name] = _build(field.type.cls, f"{key}.", found, known)
        elif key in found:
            values[field.name] = _value(key, known[key], found[key])
    return struct(**values)


# ---- the sources --------------------------------------------------------------------------------


def _from_file(file: Path) -> dict[str, _Found]:
    try:
        tree = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError(f"the settings file {file} does not exist") from None
    except OSError as e:
        raise SettingsError(f"the settings file {file} cannot be read: {e.strerror}") from e
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise SettingsError(f"the settings file {file} is not valid TOML: {e}") from e
    return {key: _Found(value, f"the file {file}") for key, value in _flat(tree, "")}


def _flat(tree: Mapping[str, object], prefix: str) -> Iterator[tuple[str, object]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _from_environ(environ: Mapping[str, str]) -> dict[str, _Found]:
    found = {}
    for name, value in environ.items():
        if name.startswith(PREFIX) and name not in CLIENT_VARIABLES:
            key = name.removeprefix(PREFIX).lower().replace("__", ".")
            found[key] = _Found(value, f"the environment variable {name}")
    return found


def _unknown(key: str, origin: str, known: list[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    if not near:  # perhaps the name is right and the table is not
        last = {each.rpartition(".")[2]: each for each in known}
        close = difflib.get_close_matches(key.rpartition(".")[2], last, n=1, cutoff=0.5)
        near = [last[each] for each in close]
    hint = f"; did you mean '{near[0]}'?" if near else "; conf/perdure.toml lists all settings"
    return f"unknown setting '{key}' in {origin}{hint}"


# ---- values -------------------------------------------------------------------------------------


def _value(key: str, field: msgspec.inspect.Field, found: _Found) -> object:
    try:
        return _convert(field.type, found.value)
    except ValueError as e:
        raise SettingsError(f"bad value for '{key}' in {found.origin}: {e}") from None


def _convert(type_: msgspec.inspect.Type, value: object) -> object:
    kind = None
    if isinstance(type_, msgspec.inspect.Metadata):
        kind = (type_.extra or {}).get("kind")
        type_ = type_.type
    match kind:
        case Kind.DURATION:
            return parse_duration_ms(_text(value, kind))
        case Kind.SIZE:
            size = _size(str(value) if type(value) is int else _text(value, kind))
            most = type_.le if isinstance(type_, msgspec.inspect.IntType) else None
            if most is not None and size > most:
                raise ValueError(
                    f"{value!r} is more than {most >> 20} MiB, the most that is stored"
                )
            return size
        case Kind.COUNT_OR_UNLIMITED:
            return None if value == _UNLIMITED else _whole(value, str(kind), least=1)
        case Kind.ADDRESS:
            text = _text(value, kind)
            split_address(text)
            return text
        case _:
            return _plain(type_, value)


def _plain(type_: msgspec.inspect.Type, value: object) -> object:
    match type_:
        case msgspec.inspect.BoolType():
            return _boolean(value)
        case msgspec.inspect.IntType(ge=int(least), le=int(most)):
            number = _whole(value, f"a whole number from {least} to {most}", least)
            if number > most:
                raise ValueError(f"{value!r} is not a whole number from {least} to {most}")
            return number
        case msgspec.inspect.IntType():
            return _whole(value, "a whole number from 1 up", least=1)
        case msgspec.inspect.FloatType(ge=lowest, le=highest):
            return _number(value, 1.0 if lowest is None else lowest, highest)
        case msgspec.inspect.EnumType(cls=cls):
            allowed = [str(member.value) for member in cls]
            if value not in allowed:
                raise ValueError(f"{value!r} is not one of {', '.join(allowed)}")
            return cls(value)
        case msgspec.inspect.VarTupleType():
            return _list(value)
        case _:
            return _text(value, "a text")


def _text(value: object, expected: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not {expected}")
    return value


def _boolean(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in _TRUE + _FALSE:
        return value.lower() in _TRUE
    raise ValueError(f"{value!r} is not true or false")


def _whole(value: object, expected: str, least: int) -> int:
    if isinstance(value, str) and value.isdecimal():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{value!r} is not {expected}")
    return value


def _number(value: object, least: float, most: float | None) -> float:
    try:
        number = float(value) if isinstance(value, int | float | str) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    highest = sys.float_info.max if most is None else most
    if isinstance(value, bool) or not least <= number <= highest:
        upper = "up" if most is None else f"to {most:g}"
        raise ValueError(f"{value!r} is not a number from {least:g} {upper}")
    return number


def _list(value: object) -> tuple[str, ...]:
    """A TOML list of texts; in the environment its items are parted by commas."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return tuple(value)
    raise ValueError(f"{value!r} is not a list of texts")


def split_address(text: str) -> tuple[str, int]:
    """`HOST:PORT` to its parts, brackets of IPv6 removed. Raises ValueError."""
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"'{text}' is ambiguous, write an IPv6 address in brackets: '[::1]:8080'")
    if not colon or not host or not port.isdecimal() or int(port) > _HIGHEST_PORT:
        raise ValueError(f"'{text}' is not {Kind.ADDRESS}")
    return host, int(port)


def with_ports(settings: Settings, ingress: int, admin: int) -> Settings:
    """The settings with the ports that were had, in place of 0."""

    def address(text: str, port: int) -> str:
        return f"{text.rpartition(':')[0]}:{port}"

    replace = msgspec.structs.replace
    return replace(
        settings,
        ingress=replace(settings.ingress, bind=address(settings.ingress.bind, ingress)),
        admin=replace(settings.admin, bind=address(settings.admin.bind, admin)),
    )


def is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def to_text(field: msgspec.inspect.Field, value: object) -> object:
    """The value of a setting as one writes it into a TOML file."""
    extra = field.type.extra if isinstance(field.type, msgspec.inspect.Metadata) else None
    match (extra or {}).get("kind"):
        case Kind.DURATION if isinstance(value, int):
            return format_duration(value)
        case Kind.SIZE if isinstance(value, int):
            return format_size(value)
        case Kind.COUNT_OR_UNLIMITED if value is None:
            return _UNLIMITED
        case _:
            return list(value) if isinstance(value, tuple) else value
