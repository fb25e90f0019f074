"""A journal as a timeline: each command with the notification that completed it, in JSON. Pure but for
reading the journal's rows, which happens in a thread.

Order is by index. ``at`` and ``until`` tell when a command and its completion were committed, in milliseconds
since the Unix epoch; entries of older releases have no moment.
"""

from collections.abc import Sequence
from itertools import repeat
from typing import Any, Final, TypeAlias

from perdure.gateway.console import listing, shapes
from perdure.gateway.console.source import Reads
from perdure.journal import entries as e
from perdure.journal import keys
from perdure.journal.errors import BadId
from perdure.journal.ids import parse_invocation_id

Timed: TypeAlias = tuple[e.Entry, int | None]  # with the moment of its commit

MOST: Final = 500  # entries of a page
_MOST_BYTES: Final = 32 << 20  # of segments that one page may decode
_BITE: Final = 50


def read_entries(store: Reads, id: bytes, first: int, limit: int) -> tuple[list[Timed], bool]:
    """Entries from index ``first`` on, and whether there may be more behind them."""
    start, stop = keys.journal_range(id)
    found: list[Timed] = []
    size = 0
    while True:
        rows = store.scan(start, stop, _BITE)
        for key, value in rows:
            size += len(value)
            segment = e.decode_segment(value)[max(0, first - keys.journal_index(key)) :]
            found += zip(segment, repeat(e.segment_at_ms(value)), strict=False)
            if len(found) > limit:
                return found[:limit], True
            if size > _MOST_BYTES:
                return found, True
            start = key + b"\x00"
        if len(rows) < _BITE:
            return found, False


def timeline(store: Reads, id: bytes, first: int) -> dict[str, Any]:
    """One page: ``items``, and ``next`` where there is more."""
    found, is_cut = read_entries(store, id, first, MOST)
    items = pair(found, first)
    children = _children(store, items)
    for item in items:
        child = children.get(item.get("child", ""))
        if child is not None:
            item["child_row"] = child
    shown: dict[str, Any] = {"items": items, "first": first}
    if is_cut:
        shown["next"] = first + len(found)
    return shown


def pair(found: Sequence[Timed], first: int) -> list[dict[str, Any]]:
    """Commands with their completions; notifications of other pages and signals stand alone."""
    items: list[dict[str, Any]] = []
    waiting: dict[int, dict[str, Any]] = {}
    ids: dict[int, dict[str, Any]] = {}
    for index, (entry, at_ms) in enumerate(found, first):
        place = {"index": index} if at_ms is None else {"index": index, "at": at_ms}
        if isinstance(entry, e.Completion):
            number, shown = entry.completion_id, shapes.result(entry.result)
            if number in ids:
                ids.pop(number)["child"] = shown.get("invocation", "")
            elif number in waiting:
                until = {} if at_ms is None else {"until": at_ms}
                waiting.pop(number).update(end=index, result=shown, open=False, **until)
            else:
                alone = {"type": "completion", "of": number, "result": shown, "note": True}
                items.append(place | alone)
            continue
        if isinstance(entry, e.Signal):
            items.append(place | _signal(entry))
            continue
        command = e.plain(entry)
        item = place | describe(command)
        items.append(item)
        number_of_id = getattr(command, "id_completion_id", None)
        if number_of_id is not None:
            ids[number_of_id] = item
        number_of_result = getattr(command, "completion_id", None)
        if number_of_result is not None:
            item["open"] = True
            waiting[number_of_result] = item
    return items


def describe(command: Any) -> dict[str, Any]:
    """What a command is about, in a few fields: ``title`` is the thing, ``payload`` what was given."""
    shown: dict[str, Any] = {"type": e.type_name(command)}
    if getattr(command, "name", ""):
        shown["name"] = command.name
    match command:
        case e.Input(headers=headers, value=value):
            shown |= {"payload": shapes.payload(value), "headers": [list(h) for h in headers[:50]]}
        case e.Output(result=result):
            shown["result"] = shapes.outcome(result)
        case e.SetState(key=key, value=value):
            shown |= {"title": key, "payload": shapes.payload(value)}
        case e.GetEagerState(key=key, value=value):
            got = {"void": True} if value is None else {"value": shapes.payload(value)}
            shown |= {"title": key, "result": got}
        case e.GetEagerStateKeys(keys=names):
            shown["result"] = {"keys": list(names[:200])}
        case e.GetLazyState() | e.ClearState() | e.GetPromise() | e.PeekPromise():
            shown["title"] = command.key
        case e.CompletePromise(key=key, result=result):
            shown |= {"title": key, "given": shapes.outcome(result)}
        case e.Sleep(wake_up_at_ms=due_ms):
            shown["due"] = due_ms
        case e.Call() | e.OneWayCall():
            shown |= _call(command)
        case e.SendSignal(target_id=target, signal=signal, result=result):
            shown |= {"title": str(signal), "target": target, "given": shapes.result(result)}
        case e.CompleteAwakeable(awakeable_id=awakeable, result=result):
            shown |= {"title": awakeable, "given": shapes.outcome(result)}
        case e.AttachInvocation(target=target) | e.GetInvocationOutput(target=target):
            if isinstance(target, e.ById):
                shown["child"] = target.invocation_id
        case _:
            pass
    return shown


def _call(command: e.Call | e.OneWayCall) -> dict[str, Any]:
    middle = f"{command.key}/" if command.key else ""
    shown: dict[str, Any] = {
        "title": f"{command.service}/{middle}{command.handler}",
        "payload": shapes.payload(command.parameter),
    }
    if isinstance(command, e.OneWayCall) and command.invoke_at_ms:
        shown["due"] = command.invoke_at_ms
    if command.idempotency_key is not None:
        shown["idempotency_key"] = command.idempotency_key
    return shown


def _signal(entry: e.Signal) -> dict[str, Any]:
    if entry.signal == e.CANCEL_SIGNAL:
        title = "cancel"
    elif isinstance(entry.signal, int) and entry.signal >= e.FIRST_AWAKEABLE_SIGNAL:
        title = f"awakeable {entry.signal}"
    else:
        title = str(entry.signal)
    result = shapes.result(entry.result)
    return {"type": "signal", "title": title, "result": result, "note": True}


def _children(store: Reads, items: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The invocations that these commands began or attached to, as they are now."""
    ids: dict[bytes, str] = {}
    for item in items:
        text = item.get("child")
        if text:
            try:
                ids[parse_invocation_id(text)] = text
            except BadId:
                continue  # a handler may attach to anything it was told
    found = listing.some(store, ids)
    return {ids[id]: shapes.row(id, record) for id, record in found.items()}


def payload_of(store: Reads, id: bytes, index: int, limit_bytes: int) -> dict[str, Any] | None:
    """The value of one entry, or of what it was completed with; None where it has none."""
    found, _ = read_entries(store, id, index, 1)
    if not found:
        return None
    for name in ("value", "parameter", "result"):
        content = getattr(e.plain(found[0][0]), name, None)
        if isinstance(content, e.Value):
            content = content.content
        if isinstance(content, bytes):
            return shapes.payload(content, limit_bytes)
    return None
