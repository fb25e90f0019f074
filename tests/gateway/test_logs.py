"""Log lines: fields, JSON, and nothing that a terminal or a reader of lines could be fooled by (S17)."""

import io
import json
import logging
from collections.abc import Iterator

import pytest

from perdure.gateway import logs
from perdure.gateway.settings import Log, LogFormat, LogLevel

NASTY = "a\nERROR fake\x1b[31m\x1b]52;c;aGk=\x07\r\x00\x9b\u202eb\u2028c"


@pytest.fixture(autouse=True)
def _root_logger() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def configured(settings: Log) -> io.StringIO:
    stream = io.StringIO()
    logs.configure(settings, stream)
    return stream


def test_a_human_line_ends_with_its_fields() -> None:
    stream = configured(Log())
    fields = {"invocation_id": "inv_1x", "target": "Counter/k/add", "attempt": 2}
    logging.getLogger("perdure.test").info("hello %s", "you", extra=fields)
    line = stream.getvalue()
    assert line.endswith(
        "INFO    perdure.test: hello you [invocation_id=inv_1x target=Counter/k/add attempt=2]\n"
    )


def test_a_json_line_is_one_object() -> None:
    stream = configured(Log(format=LogFormat.JSON))
    log = logging.getLogger("perdure.test")
    log.warning(NASTY, extra={"attempt": 2, "target": NASTY})
    (line,) = stream.getvalue().split("\n")[:-1]
    found = json.loads(line)
    assert list(found) == ["time", "level", "logger", "message", "target", "attempt"]
    assert found["message"] == NASTY
    assert found["attempt"] == 2
    assert found["level"] == "warning"


def test_text_of_users_makes_one_line_without_control_characters() -> None:
    stream = configured(Log())
    logging.getLogger("perdure.test").error("%s", NASTY, extra={"target": NASTY})
    text = stream.getvalue()
    assert text.count("\n") == 1
    assert text[:-1].isprintable()
    assert "\\x1b" in text


def test_a_traceback_is_indented_and_escaped() -> None:
    stream = configured(Log())
    try:
        raise ValueError(NASTY)
    except ValueError:
        logging.getLogger("perdure.test").exception("failed")
    first, *rest = stream.getvalue().rstrip("\n").split("\n")
    assert first.endswith("failed")
    assert all(each.startswith("    | ") for each in rest)
    assert all(each.isprintable() for each in rest)
    stream = configured(Log(format=LogFormat.JSON))
    try:
        raise ValueError("\udcff")
    except ValueError:
        logging.getLogger("perdure.test").exception("failed \udcff")
    assert "ValueError" in json.loads(stream.getvalue())["traceback"]


def test_less_than_the_level_is_left_out() -> None:
    stream = configured(Log(level=LogLevel.ERROR))
    logging.getLogger("perdure.test").warning("no")
    assert stream.getvalue() == ""
