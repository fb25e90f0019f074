"""The documents as the tests see them: their code blocks, links, headings. No assertions here."""

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NAMED = re.compile(r"# (\w+\.py)\n")
_LINK = re.compile(r"(?<!!)\[[^]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


class Block(msgspec.Struct, frozen=True):
    """A fenced block. ``file``: the name in a first line such as `# account.py`; may be empty."""

    language: str
    text: str
    file: str


class Command(msgspec.Struct, frozen=True):
    """One `$ ` line of a console block, and what the document shows below it."""

    words: str
    output: str


def blocks(document: Path) -> list[Block]:
    found = []
    for language, text in _FENCE.findall(document.read_text()):
        named = _NAMED.match(text)
        found.append(Block(language, text, named[1] if named else ""))
    return found


def commands(block: Block) -> Iterator[Command]:
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        words, _, output = part.partition("\n")
        yield Command(words, output)


def prose(document: Path) -> str:
    """The text without its code blocks."""
    return _FENCE.sub("", document.read_text())


def links(document: Path) -> list[str]:
    return _LINK.findall(prose(document))


def anchors(document: Path) -> set[str]:
    """What a link into the document may name, as GitHub makes it of a heading."""
    headings = (text.lower().replace("`", "") for text in _HEADING.findall(prose(document)))
    return {re.sub(r"[^\w\- ]", "", each).replace(" ", "-") for each in headings}
