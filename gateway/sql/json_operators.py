"""`a -> 'b'` and `a ->> 'b'` as calls of the JSON functions, since DataFusion's parser leaves them to others.

Pure. Works on words, not on a syntax tree: the operand on the left is a name, a literal, a call or
something in parentheses, the one on the right a name or a literal. Anything else stays as it is.
"""

import re
from typing import Final

_WORDS: Final = re.compile(
    r"""(?P<space>\s+|--[^\n]*|/\*.*?\*/)
      | (?P<text>'(?:[^']|'')*')
      | (?P<name>"(?:[^"]|"")*"|[A-Za-z_][\w$]*)
      | (?P<number>\d+(?:\.\d+)?)
      | (?P<arrow>->>|->)
      | (?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)
_FUNCTIONS: Final = {"->": "json_get_json", "->>": "json_as_text"}
_OPERAND: Final = "operand"
_OPERANDS: Final = ("text", "name", "number", _OPERAND)

_Word = tuple[str, str]  # kind, text


def rewrite(sql: str) -> str:
    """The query without the two operators, where they are used as described above."""
    if "->" not in sql:
        return sql
    words: list[_Word] = [(each.lastgroup or "other", each[0]) for each in _WORDS.finditer(sql)]
    done: list[_Word] = []
    at = 0
    while at < len(words):
        kind, text = words[at]
        right = _next(words, at)
        start = _operand_start(done) if kind == "arrow" and right is not None else None
        if right is None or start is None:
            done.append(words[at])
            at += 1
            continue
        left = "".join(text for _, text in done[start:]).strip()
        call = f"{_FUNCTIONS[text]}({left}, {words[right][1]})"
        done[start:] = [(_OPERAND, call)]
        at = right + 1
    return "".join(text for _, text in done)


def _next(words: list[_Word], at: int) -> int | None:
    """The operand behind an operator."""
    for index in range(at + 1, len(words)):
        kind = words[index][0]
        if kind in _OPERANDS:
            return index
        if kind != "space":
            return None
    return None


def _operand_start(done: list[_Word]) -> int | None:
    """Where the operand begins that ``done`` ends with."""
    at = len(done) - 1
    while at >= 0 and done[at][0] == "space":
        at -= 1
    if at < 0:
        return None
    if done[at][1] == ")":
        opened = _opening(done, at)
        if opened is None:
            return None
        at = opened
        if at == 0 or done[at - 1][0] != "name":
            return at
        at -= 1  # the name of what is called
    elif done[at][0] not in _OPERANDS:
        return None
    while at >= 2 and done[at - 1][1] == "." and done[at - 2][0] == "name":
        at -= 2
    return at


def _opening(done: list[_Word], closed: int) -> int | None:
    depth = 0
    for at in range(closed, -1, -1):
        if done[at] == ("other", ")"):
            depth += 1
        elif done[at] == ("other", "("):
            depth -= 1
            if depth == 0:
                return at
    return None
