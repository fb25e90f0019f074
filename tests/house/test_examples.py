"""What the documents show is true: their files run, their commands give the output below them."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.documents import DOCUMENTS, ROOT, blocks, commands
from tests.house.sessions import SET_UP, Session

WITH_EXAMPLES = [
    each for each in DOCUMENTS if any(b.file or b.language == "console" for b in blocks(each))
]


def _name(document: Path) -> str:
    return str(document.relative_to(ROOT))


@pytest.mark.parametrize("document", WITH_EXAMPLES, ids=_name)
def test_commands_give_what_is_shown(document: Path, tmp_path: Path) -> None:
    with Session(tmp_path) as session:
        for block in blocks(document):
            if block.file:
                (tmp_path / block.file).write_text(block.text)
            if block.language != "console":
                continue
            for command in commands(block):
                if not command.words.startswith(SET_UP):
                    output = session.run(command.words)
                    if command.output:
                        assert _lines(output) == _lines(command.output), command.words


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.strip().splitlines()]


@pytest.mark.parametrize("document", WITH_EXAMPLES, ids=_name)
def test_tests_that_are_shown_pass(document: Path, tmp_path: Path) -> None:
    files = [each for each in blocks(document) if each.file]
    for each in files:
        (tmp_path / each.file).write_text(each.text)
    tests = [each.file for each in files if each.file.startswith("test_")]
    if tests:
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
        ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize("document", DOCUMENTS, ids=_name)
def test_python_that_is_shown_is_python(document: Path) -> None:
    for block in blocks(document):
        if block.language == "python":
            compile(block.text, str(document), "exec")


def test_ci_sets_up_and_tests_as_the_readme_says() -> None:
    shown = [
        command.words
        for block in blocks(ROOT / "README.md")
        if block.language == "console"
        for command in commands(block)
        if command.words.startswith(SET_UP)
    ]
    ci = (ROOT / ".ci/run").read_text().replace("--quiet ", "")
    for quote in "\"'":
        ci = ci.replace(quote, "")
    ci = ci.replace("$python -m venv $venv", "python3 -m venv .venv").replace("$venv/", ".venv/")
    assert len(shown) == 3, "two commands set up, one tests"
    for words in shown:
        assert words.replace("'", "") in ci, words
