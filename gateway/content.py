"""Whether a request's body and content type suit a handler, and what type its answer has. Pure.

Rules: ingress 6. JSON itself is never looked at here: a malformed body reaches the handler.
"""

from collections.abc import Sequence

from perdure.journal.schema import InputRule, OutputRule

_PREFIX = "input validation error: "


def input_error(rules: Sequence[InputRule], content_type: str | None, body: bytes) -> str | None:
    """None when any rule passes, else the 400 message: that of the last rule."""
    reason = ""
    for rule in rules:
        reason = _refusal(rule, content_type, body)
        if not reason:
            return None
    return _PREFIX + reason


def _refusal(rule: InputRule, content_type: str | None, body: bytes) -> str:
    if rule.content_type is None:
        if not body and content_type is None:
            return ""
        shown = "None" if content_type is None else f'Some("{content_type}")'
        return f"Expected body and content-type to be empty, but wasn't with content-type '{shown}'"
    if content_type is None:
        return "Empty content-type"
    if not _matches(rule.content_type, content_type):
        return f"Content-type '{content_type}' does not match '{rule.content_type}'"
    if rule.body_required and not body:
        return "Empty body not allowed"
    return ""


def _matches(pattern: str, content_type: str) -> bool:
    """Compares exactly, without parameters; `*/*` and `type/*` are patterns."""
    if pattern == "*/*":
        return True
    plain = content_type.partition(";")[0].strip()
    if pattern.endswith("/*"):
        return plain.partition("/")[0] == pattern[:-2]
    return plain == pattern


def output_content_type(rule: OutputRule, body: bytes) -> str | None:
    """The content type of a success, or None for none."""
    return rule.content_type if body or rule.set_if_empty else None
