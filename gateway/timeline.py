"""One invocation as a timeline: its journal's commands with what answered them, and when.

Made of the admin API's JSON alone; pure. An entry has the moment of its commit. Entries of older releases
have none: then what is known comes from the invocation and from the invocations that it called.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from perdure.gateway.cli_http import value_text

_CALLS: Final = ("call", "one_way_call")
_NOTIFICATIONS: Final = ("completion", "signal")
_UNSHOWN: Final = frozenset(
    {
        "index", "type", "at", "name", "key", "service", "handler", "headers", "completion_id",
        "id_completion_id", "value", "parameter", "result", "wake_up_at_ms", "invoke_at_ms",
        "scope", "limit_key", "wire",
    }
)  # fmt: skip


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One command, or a signal. ``state``: done, waiting, failed, or "" where nothing is to come.

    ``at``: when it was committed, RFC 3339; ``took_ms``: from then to the commit of its result, which has
    the index ``answered_by``. Of a send, the time that the other invocation took.
    """

    index: int
    type: str
    what: str
    given: str = ""
    result: str = ""
    state: str = ""
    answered_by: int | None = None
    at: str | None = None
    took_ms: float | None = None
    child_id: str | None = None
    error: str = ""


def timeline(
    info: Mapping[str, Any],
    entries: Iterable[Mapping[str, Any]],
    children: Mapping[str, Mapping[str, Any]],
) -> list[Line]:
    """``children``: the invocations that were called, by id, where known."""
    plain = [_unwrapped(each) for each in entries]
    answers = {e["completion_id"]: e for e in plain if e["type"] == "completion"}
    failed_at = (info.get("last_failure") or {}).get("related_command_index")
    lines, command_index = [], 0
    for entry in plain:
        if entry["type"] == "completion":
            continue
        line = _line(entry, answers, children, info)
        if entry["type"] not in _NOTIFICATIONS:
            if command_index == failed_at and "completed_at" not in info:
                line = msgspec.structs.replace(line, error=info["last_failure"]["message"])
            command_index += 1
        lines.append(line)
    return lines


def child_ids(entries: Iterable[Mapping[str, Any]]) -> list[str]:
    """The invocations that were called and whose times the journal does not tell, in order."""
    plain = [_unwrapped(each) for each in entries]
    untold = {
        each["id_completion_id"]
        for each in plain
        if each["type"] in _CALLS and (each["type"] == "one_way_call" or "at" not in each)
    }
    return [
        str(each["result"]["id"])
        for each in plain
        if each["type"] == "completion"
        and each["completion_id"] in untold
        and each["result"].get("type") == "invocation_id"
    ]


def _unwrapped(entry: Mapping[str, Any]) -> dict[str, Any]:
    """A command that is kept as its SDK sent it looks like any other."""
    command = entry.get("command")
    if isinstance(command, dict) and "wire" in entry:
        outer = {name: entry[name] for name in ("index", "type", "at") if name in entry}
        return {**command, **outer}
    return dict(entry)


def _line(
    entry: Mapping[str, Any],
    answers: Mapping[int, Mapping[str, Any]],
    children: Mapping[str, Mapping[str, Any]],
    info: Mapping[str, Any],
) -> Line:
    kind = entry["type"]
    answer = answers.get(entry.get("completion_id", -1))
    child_id, child = _child(entry, answers, children)
    result = "" if answer is None else result_text(answer["result"])
    failed = answer is not None and answer["result"].get("type") == "failure"
    waits = "completion_id" in entry and answer is None
    at = entry.get("at") or _other_moment(entry, child, info)
    took_ms = _took_ms(entry, answer, child)
    if kind in ("output", "signal", "complete_promise", "complete_awakeable", "send_signal"):
        result = result_text(entry["result"])
        failed = entry["result"].get("type") == "failure"
    elif kind == "get_eager_state":
        result = value_text(entry["value"]) if entry.get("value") else "nothing"
    return Line(
        index=entry["index"],
        type=kind,
        what=_what(entry),
        given=_given(entry),
        result=result,
        state="waiting" if waits else "failed" if failed else "done" if answer else "",
        answered_by=None if answer is None else answer["index"],
        at=at,
        took_ms=took_ms,
        child_id=child_id,
    )


def _child(
    entry: Mapping[str, Any],
    answers: Mapping[int, Mapping[str, Any]],
    children: Mapping[str, Mapping[str, Any]],
) -> tuple[str | None, Mapping[str, Any] | None]:
    if entry["type"] not in _CALLS:
        return None, None
    told = answers.get(entry["id_completion_id"])
    if told is None or told["result"].get("type") != "invocation_id":
        return None, None
    child_id = str(told["result"]["id"])
    return child_id, children.get(child_id)


def _what(entry: Mapping[str, Any]) -> str:
    if entry["type"] in _CALLS:
        middle = f"/{entry['key']}" if entry.get("key") else ""
        target = f"{entry['service']}{middle}/{entry['handler']}"
        return f"{entry['name']}: {target}" if entry.get("name") else target
    if entry["type"] == "sleep":
        until = f"until {_due_text(entry['wake_up_at_ms'], entry.get('at'))}"
        return f"{entry['name']} {until}" if entry.get("name") else until
    if entry["type"] == "signal":
        return "cancel" if entry["signal"] == 1 else f"{entry['signal']}"
    parts = [str(entry[each]) for each in ("name", "key") if entry.get(each)]
    parts += [
        f"{name}={_short(value)}"
        for name, value in entry.items()
        if name not in _UNSHOWN and value not in ("", None, [])
    ]
    return " ".join(parts)


def _short(value: Any) -> str:
    if isinstance(value, dict) and "type" in value:
        rest = [str(each) for name, each in value.items() if name != "type"]
        return " ".join(rest)
    return str(value)


def _given(entry: Mapping[str, Any]) -> str:
    value = entry.get("parameter") or (
        entry.get("value") if entry["type"] != "get_eager_state" else None
    )
    return value_text(value) if isinstance(value, dict) and "base64" in value else ""


def result_text(result: Mapping[str, Any]) -> str:
    match result:
        case {"type": "value", "content": content}:
            return value_text(content)
        case {"type": "failure", "code": code, "message": message}:
            return f"{message} ({code})"
        case {"type": "invocation_id", "id": id}:
            return str(id)
        case {"type": "state_keys", "keys": keys}:
            return ", ".join(keys)
        case _:
            return "done"


# ---- moments -------------------------------------------------------------------------------------


def _other_moment(
    entry: Mapping[str, Any], child: Mapping[str, Any] | None, info: Mapping[str, Any]
) -> str | None:
    """About when an entry without a moment was committed, where anything tells."""
    match entry["type"]:
        case "input":
            return str(info["created_at"])
        case "output":
            return info.get("completed_at")
        case _:
            return None if child is None else str(child["created_at"])


def _took_ms(
    entry: Mapping[str, Any], answer: Mapping[str, Any] | None, child: Mapping[str, Any] | None
) -> float | None:
    if answer is not None and "at" in entry and "at" in answer:
        return max(0.0, span_ms(entry["at"], answer["at"]) or 0.0)  # clocks can be set back
    return None if child is None else span_ms(child["created_at"], child.get("completed_at"))


def _due_text(unix_ms: int, since: str | None) -> str:
    """The time of day, with the date where it is another one than that of ``since``."""
    try:
        moment = datetime.fromtimestamp(unix_ms / 1000).astimezone()
    except (OverflowError, ValueError, OSError):  # beyond what a calendar holds
        return f"{unix_ms} ms"
    if since is not None and parse(since).astimezone().date() == moment.date():
        return clock(moment.isoformat())
    return moment.isoformat(sep=" ", timespec="seconds")


def span_ms(start: str, end: str | None) -> float | None:
    if end is None:
        return None
    return (parse(end) - parse(start)).total_seconds() * 1000


def parse(moment: str) -> datetime:
    """RFC 3339 with up to nanoseconds."""
    return datetime.fromisoformat(moment)


def clock(moment: str | None) -> str:
    """The time of day here, to the millisecond."""
    if moment is None:
        return ""
    try:
        return parse(moment).astimezone().strftime("%H:%M:%S.%f")[:-3]
    except ValueError:
        return moment


def span_text(milliseconds: float | None) -> str:
    if milliseconds is None:
        return ""
    if milliseconds < 1000:
        return f"{milliseconds:.0f} ms"
    seconds = milliseconds / 1000
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"
