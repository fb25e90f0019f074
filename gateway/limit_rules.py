"""Rules that limit how many invocations run at once: patterns, versions, preconditions. Pure.

They are kept and told; nothing is limited by them while scopes are refused (``vqueues`` is off).
Rules: admin 8.1 and 8.2.
"""

import re
from typing import Annotated, Final, Literal

import msgspec
from msgspec.structs import replace

from perdure.gateway.deployment_errors import DeploymentRefused
from perdure.gateway.operator_book import Book, Rule

_MOST_RULES: Final = 10_000
_COMPONENT: Final = r"(?:\*|[a-zA-Z0-9_.\-]{1,36})"
_PATTERN: Final = rf"^{_COMPONENT}(?:/{_COMPONENT}){{0,2}}\Z"
_matches = re.compile(_PATTERN).match

Pattern = Annotated[str, msgspec.Meta(max_length=110)]
Description = Annotated[str, msgspec.Meta(max_length=1024)]
Version = Annotated[int, msgspec.Meta(ge=0, lt=2**32)]


class Limits(msgspec.Struct, frozen=True, omit_defaults=True):
    """``concurrency`` None: no limit."""

    concurrency: Annotated[int, msgspec.Meta(ge=1, lt=2**32)] | None = None


class Precondition(msgspec.Struct, frozen=True):
    type: Literal["none", "does_not_exist", "matches"] = "none"
    version: Version | None = None


class RuleBody(msgspec.Struct, frozen=True):
    pattern: Pattern
    limits: Limits = Limits()
    description: Description | None = None
    disabled: bool = False
    precondition: Precondition = Precondition()


class RuleShown(msgspec.Struct, frozen=True, kw_only=True):
    pattern: str
    limits: Limits
    description: str | msgspec.UnsetType = msgspec.UNSET
    disabled: bool
    version: int
    last_modified_millis_since_epoch: int


class Deletion(msgspec.Struct, frozen=True):
    pattern: Pattern
    expected_version: Version | None = None


class BadRules(Exception):
    """The body has the wrong shape (422)."""


def shown(rule: Rule) -> RuleShown:
    return RuleShown(
        pattern=rule.pattern,
        limits=Limits(rule.concurrency),
        description=msgspec.UNSET if rule.description is None else rule.description,
        disabled=rule.disabled,
        version=rule.version,
        last_modified_millis_since_epoch=rule.modified_at_ms,
    )


def put(book: Book, bodies: list[RuleBody], now_ms: int) -> tuple[Book, list[Rule]]:
    """All of them or none; the rules in the order asked for. Raises BadRules, DeploymentRefused (409)."""
    rules = {each.pattern: each for each in book.rules}
    made = []
    for body in bodies:
        if not _matches(body.pattern):
            raise BadRules(
                f"pattern: expected up to three parts with slashes between, each '*' or 1 to 36 of "
                f"letters, digits and '_.-', found {body.pattern!r}"
            )
        if body.precondition.type == "matches" and body.precondition.version is None:
            raise BadRules("precondition: missing field `version`")
        old = rules.get(body.pattern)
        _check(body, old)
        rule = _changed(old, body, book.rules_version + 1, now_ms)
        rules[body.pattern] = rule
        made.append(rule)
    if len(rules) > _MOST_RULES:
        raise BadRules(f"there would be {len(rules)} rules, the limit is {_MOST_RULES}")
    return _with(book, rules), made


def _changed(old: Rule | None, body: RuleBody, book_version: int, now_ms: int) -> Rule:
    rule = Rule(
        body.pattern,
        body.limits.concurrency,
        body.description,
        body.disabled,
        book_version,
        now_ms,
    )
    if old is None:
        return rule
    if (old.concurrency, old.disabled) != (rule.concurrency, rule.disabled):
        return replace(rule, version=old.version + 1)
    if old.description != rule.description:
        return replace(rule, version=old.version)
    return old


def _check(body: RuleBody, old: Rule | None) -> None:
    wanted = body.precondition
    match wanted.type:
        case "none":
            return
        case "does_not_exist":
            if old is not None:
                raise _failed("DoesNotExist", body.pattern, old)
        case "matches":
            if old is None or old.version != wanted.version:
                raise _failed(f"Matches(v{wanted.version})", body.pattern, old)


def delete(book: Book, deletions: list[Deletion]) -> tuple[Book, list[str]]:
    """All of them or none; the patterns that were there. Raises DeploymentRefused (409)."""
    rules = {each.pattern: each for each in book.rules}
    removed = []
    for each in deletions:
        old = rules.get(each.pattern)
        if each.expected_version is not None and (
            old is None or old.version != each.expected_version
        ):
            raise _failed(f"Matches(v{each.expected_version})", each.pattern, old)
        if rules.pop(each.pattern, None) is not None:
            removed.append(each.pattern)
    return _with(book, rules), removed


def _with(book: Book, rules: dict[str, Rule]) -> Book:
    """Its version counts the requests that changed something."""
    now = tuple(rules.values())
    if now == book.rules:
        return book
    return replace(book, rules=now, rules_version=book.rules_version + 1)


def _failed(wanted: str, pattern: str, old: Rule | None) -> DeploymentRefused:
    actual = "None" if old is None else f"Some(v{old.version})"
    return DeploymentRefused(
        409,
        f"rule precondition {wanted} for pattern {pattern} failed (actual version: {actual})",
    )
