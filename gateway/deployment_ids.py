"""Is a text the id of a deployment? Pure. Rule: service protocol 4, admin 2."""

from typing import Final

_PREFIX: Final = "dp_1"
_DIGITS: Final = 22
_BASE62: Final = frozenset("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


def id_fault(given: str) -> str:
    """Why it is none, in the words of the official server; empty where it is one."""
    payload = given.removeprefix(_PREFIX)
    if payload == given:
        return "unrecognized codec version" if given.startswith("dp_") else "bad format"
    if len(payload) != _DIGITS:
        return "bad length"
    return "" if _BASE62.issuperset(payload) else "base62 decode error"
