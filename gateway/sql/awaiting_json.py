"""What an invocation waits for, as the JSON and the lists that SQL shows. Pure. Introspection 7.4."""

from typing import Any, Final

import msgspec

from perdure.journal.attempt import Awaiting, Combinator

_NAMES: Final = {
    Combinator.UNKNOWN: "Unknown",
    Combinator.FIRST_COMPLETED: "FirstCompleted",
    Combinator.ALL_COMPLETED: "AllCompleted",
    Combinator.FIRST_SUCCEEDED_OR_ALL_FAILED: "FirstSucceededOrAllFailed",
    Combinator.ALL_SUCCEEDED_OR_FIRST_FAILED: "AllSucceededOrFirstFailed",
}


def awaiting_json(awaiting: Awaiting) -> str:
    return msgspec.json.encode(awaiting_tree(awaiting)).decode()


def awaiting_tree(awaiting: Awaiting) -> dict[str, Any]:
    leaves: list[dict[str, Any]] = [{"Single": {"CompletionId": c}} for c in awaiting.completions]
    leaves += [{"Single": _signal(each)} for each in awaiting.signals]
    nested = [awaiting_tree(each) for each in awaiting.nested]
    return {_NAMES[awaiting.combinator]: leaves + nested}


def _signal(signal: int | str) -> dict[str, int | str]:
    return {"SignalName" if isinstance(signal, str) else "SignalIndex": signal}


def waiting_for(awaiting: Awaiting) -> tuple[list[int], list[int]]:
    """All completion ids and all signal indexes of a tree."""
    completions = list(awaiting.completions)
    signals = [each for each in awaiting.signals if isinstance(each, int)]
    for each in awaiting.nested:
        more, further = waiting_for(each)
        completions += more
        signals += further
    return sorted(completions), sorted(signals)
