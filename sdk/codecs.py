"""Python values to JSON and back, by type hint; one encoder, one cached decoder per hint.

No other file of the SDK picks a JSON library. msgspec does the work; pydantic does it for hints that
mention a model of its own; `json` is the fallback for what only it can (NaN, lone surrogates).
"""

import dataclasses
import json
import math
import sys
from collections.abc import Callable
from functools import lru_cache
from types import UnionType
from typing import (
    Any,
    Literal,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

import msgspec

Decode = Callable[[bytes], Any]
SchemaMode = Literal["validation", "serialization"]


# ---- encoding -----------------------------------------------------------------------------------


def _encode_hook(value: Any) -> Any:
    """What msgspec does not know itself: pydantic models and subclasses of str, int and float."""
    dump = getattr(value, "model_dump_json", None)
    if dump is not None and not isinstance(value, type):
        return msgspec.Raw(dump().encode())
    for base in (str, int, float):
        if isinstance(value, base) and type(value) is not bool:  # a bool is here only as a key
            return base(value)
    raise TypeError(f"{type(value).__qualname__} has no JSON form")


_encode = msgspec.json.Encoder(enc_hook=_encode_hook).encode


def encode_json(value: Any) -> bytes:
    """JSON text of ``value``, never empty. Raises TypeError or ValueError where it has none."""
    try:
        text = _encode(value)
    except (TypeError, ValueError, OverflowError):
        return _encode_by_stdlib(value)
    # msgspec writes NaN and infinities as null, which would be read back as None. (``find`` is eight
    # times as fast as ``in``, which first tries the bytes as a number.)
    if text.find(b"null") >= 0 and _holds_non_finite(value):
        return _encode_by_stdlib(value)
    return text


def _encode_by_stdlib(value: Any) -> bytes:
    def to_builtins(inner: Any) -> Any:
        if dataclasses.is_dataclass(inner) and not isinstance(inner, type):
            return {f.name: getattr(inner, f.name) for f in dataclasses.fields(inner)}
        dump = getattr(inner, "model_dump", None)
        if dump is not None and not isinstance(inner, type):
            return dump(mode="json")
        return msgspec.to_builtins(inner, enc_hook=_encode_hook)

    return json.dumps(value, default=to_builtins).encode()


_SCALARS = (str, int, type(None))
_SEQUENCES = (list, tuple)


def _holds_non_finite(value: Any) -> bool:
    if isinstance(value, _SCALARS):
        return False
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, dict):
        return any(map(_holds_non_finite, value.values()))
    if isinstance(value, _SEQUENCES):
        return any(map(_holds_non_finite, value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return any(_holds_non_finite(getattr(value, f.name)) for f in dataclasses.fields(value))
    return False


# ---- decoding -----------------------------------------------------------------------------------

_decode_untyped = msgspec.json.Decoder().decode


def decode_json(text: bytes) -> Any:
    """JSON to dicts, lists and scalars; accepts what `json.loads` accepts. Raises ValueError."""
    try:
        return _decode_untyped(text)
    except msgspec.DecodeError:
        return json.loads(text)


class _NoTypedForm(Exception):
    """A class without a known JSON form: its values stay what JSON says they are."""


def _decode_hook(hint: type, value: Any) -> Any:
    try:
        if isinstance(value, hint):
            return value
    except TypeError:  # such as Iterable[int], or a class with parameters
        pass
    raise _NoTypedForm(hint)


def _typed(hint: Any) -> Decode:
    decode = msgspec.json.Decoder(hint, dec_hook=_decode_hook).decode

    def decode_typed(text: bytes) -> Any:
        try:
            return decode(text)
        except msgspec.ValidationError:
            raise
        except msgspec.DecodeError:
            # Text that only the standard library reads, such as NaN; or text that is not JSON.
            return msgspec.convert(json.loads(text), hint)
        except _NoTypedForm:
            return decode_json(text)

    return decode_typed


@lru_cache(maxsize=4096)
def _decoder_for(hint: Any) -> Decode:
    if is_pydantic(hint):
        validate: Decode = hint.model_validate_json
        return validate
    if mentions_pydantic(hint):
        return _type_adapter(hint).validate_json  # type: ignore[no-any-return]
    try:
        typed = _typed(hint)
    except (TypeError, msgspec.MsgspecError):
        return decode_json  # for example a union of two dataclasses
    return _checked(typed) if mentions_typed_dict(hint) and is_json(hint) else typed


def _checked(typed: Decode) -> Decode:
    """What the text says, if it fits: of a TypedDict the keys as well that it does not declare."""

    def decode_checked(text: bytes) -> Any:
        typed(text)
        return decode_json(text)

    return decode_checked


_JSON_TYPES = (Any, object, None, type(None), bool, int, float, str, list, dict)
_JSON_ORIGINS = (list, dict, Union, UnionType)


def is_json(hint: Any, inside: tuple[Any, ...] = ()) -> bool:
    """Whether its values are those that JSON has: dicts with text keys, lists, scalars.

    ``inside``: TypedDicts around it, which may come again in themselves.
    """
    if is_typeddict(hint):
        inner = get_type_hints(hint).values()
        return hint in inside or all(is_json(each, (*inside, hint)) for each in inner)
    origin = get_origin(hint)
    if origin is None:
        return hint in _JSON_TYPES
    arguments = get_args(hint)
    if origin is dict and arguments[0] is not str:
        return False
    is_known = origin in _JSON_ORIGINS and all(is_json(each, inside) for each in arguments)
    return is_known or origin is Literal


def mentions_typed_dict(hint: Any) -> bool:
    """Whether a TypedDict is ``hint``, or among its arguments at any depth."""
    return is_typeddict(hint) or any(map(mentions_typed_dict, get_args(hint)))


def decoder_for(hint: Any) -> Decode:
    """JSON text to a value of type ``hint``; cached. Text must not be empty.

    A decoder raises msgspec.ValidationError or pydantic.ValidationError where the text does not fit
    the hint and another ValueError or msgspec.DecodeError where it is not JSON. A hint that no
    library understands decodes to dicts, lists and scalars.
    """
    if hint is Any or hint is object:
        return decode_json
    try:
        return _decoder_for(hint)
    except TypeError:  # an unhashable hint
        return _decoder_for.__wrapped__(hint)


# ---- pydantic, only where the program has loaded it ---------------------------------------------


def is_pydantic(annotation: Any) -> bool:
    """Whether ``annotation`` is a pydantic model class."""
    pydantic = sys.modules.get("pydantic")
    try:
        return pydantic is not None and issubclass(annotation, pydantic.BaseModel)
    except TypeError:
        return False


def mentions_pydantic(hint: Any) -> bool:
    """Whether a pydantic model or dataclass occurs in ``hint``, at any depth of its arguments."""
    if "pydantic" not in sys.modules:
        return False
    if is_pydantic(hint) or hasattr(hint, "__pydantic_validator__"):
        return True
    return any(mentions_pydantic(each) for each in get_args(hint))


def _type_adapter(hint: Any) -> Any:
    return sys.modules["pydantic"].TypeAdapter(hint)


# ---- JSON schema --------------------------------------------------------------------------------


def schema_for(hint: Any, mode: SchemaMode) -> Any:
    """JSON schema of ``hint``; True (anything) for hints without one."""
    if hint is Any or hint is object:
        return True
    if is_pydantic(hint):
        return hint.model_json_schema(mode=mode)
    if mentions_pydantic(hint):
        return _type_adapter(hint).json_schema(mode=mode)
    try:
        return msgspec.json.schema(hint) or True
    except (TypeError, msgspec.MsgspecError):
        return True
