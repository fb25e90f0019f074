"""The documents hang together: links lead somewhere, names exist, versions agree."""

import re
import tomllib
from datetime import date
from pathlib import Path

import pytest

from tests.house.documents import DOCUMENTS, ROOT, anchors, links, prose

MOST_WORDS = 700  # of a decision: a page
TESTS = {
    match
    for path in ROOT.glob("tests/**/*.py")
    for match in re.findall(r"\bdef (test_\w+)|^(Test\w+) = ", path.read_text(), re.MULTILINE)
    for match in match
    if match
}


def _name(document: Path) -> str:
    return str(document.relative_to(ROOT))


@pytest.mark.parametrize("document", DOCUMENTS, ids=_name)
def test_every_link_leads_somewhere(document: Path) -> None:
    for link in links(document):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = document.parent / path if path else document
        assert target.exists(), f"{link}: no such file"
        assert not anchor or anchor in anchors(target), f"{link}: no such heading"


@pytest.mark.parametrize("document", DOCUMENTS, ids=_name)
def test_every_file_and_test_that_is_named_exists(document: Path) -> None:
    for name in re.findall(r"`([^`\n]+)`", prose(document)):
        if re.fullmatch(r"(journal|sdk|actors|gateway|conf|samples|tests|docs)/[\w./]*", name):
            assert (ROOT / name).exists(), f"{name}: no such file"
        if name.startswith("test_") and name.isidentifier():
            assert name in TESTS, f"{name}: no such test"


def test_every_document_can_be_reached_from_the_readme() -> None:
    reached = {ROOT / "README.md"}
    todo = list(reached)
    while todo:
        document = todo.pop()
        for link in links(document):
            path = (document.parent / link.partition("#")[0]).resolve()
            found = sorted(path.glob("*.md")) if path.is_dir() else [path]
            for each in found:
                if each.suffix == ".md" and each.is_file() and each not in reached:
                    reached.add(each)
                    todo.append(each)
    assert sorted(set(DOCUMENTS) - reached) == []


def test_the_changelog_is_dated_newest_first_and_ends_with_the_current_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    found = re.findall(r"^## (\d+\.\d+\.\d+) \((\d{4}-\d\d-\d\d)\)$", text, re.MULTILINE)
    assert len(found) == len(re.findall("^## ", text, re.MULTILINE)), (
        "a heading has no version, date"
    )
    versions = [tuple(int(part) for part in version.split(".")) for version, _ in found]
    assert versions == sorted(versions, reverse=True)
    assert [date.fromisoformat(day) for _, day in found]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert found[0][0] == project["version"]
    parts = set(re.findall("^### (.+)$", text, re.MULTILINE))
    assert parts <= {"Added", "Changed", "Fixed", "Removed"}


def test_decisions_are_numbered_without_holes_and_have_their_four_parts() -> None:
    decisions = sorted((ROOT / "docs/decisions").glob("*.md"))
    numbers = [int(each.name[:4]) for each in decisions]
    assert numbers == list(range(1, len(numbers) + 1))
    for each in decisions:
        text = each.read_text()
        assert text.startswith(f"# {each.name[:4]}: "), each.name
        headings = re.findall("^## (.+)$", text, re.MULTILINE)
        assert headings == ["Context", "Decision", "Consequences", "Turned down"], each.name
        assert len(text.split()) <= MOST_WORDS, f"{each.name} is longer than a page"


def test_every_code_that_the_sources_name_has_a_page() -> None:
    index = (ROOT / "docs/errors/README.md").read_text()
    sources = [
        path.read_text()
        for room in ("journal", "sdk", "actors", "gateway")
        for path in (ROOT / room).rglob("*.py")
    ]
    codes = {code for text in sources for code in re.findall(r"\bRT0\d{3}\b", text)}
    assert codes, "the pattern finds nothing any more"
    for code in sorted(codes):
        assert (ROOT / f"docs/errors/{code}.md").exists(), f"{code} has no page"
        assert f"({code}.md)" in index, f"{code} is not in the index"
