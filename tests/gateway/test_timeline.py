"""A timeline in the terminal has the journal's moments, and what is known otherwise where there are none."""

from typing import Any

from perdure.gateway.timeline import child_ids, timeline

DONE = {"created_at": "2026-11-22T10:00:00.000Z", "completed_at": "2026-11-22T10:00:09.000Z"}
CHILD = {"created_at": "2026-11-22T10:00:02.000Z", "completed_at": "2026-11-22T10:00:02.500Z"}
UNTIL_MS = 1_795_341_604_000  # four seconds after it was created
VALUE = {"type": "value", "content": {"base64": "MQ==", "json": 1}}
ID_1 = {"type": "invocation_id", "id": "inv_1"}
JOURNAL: list[dict[str, Any]] = [
    {"index": 0, "type": "input", "value": {"base64": "MQ==", "json": 1}},
    {"index": 1, "type": "call", "id_completion_id": 1, "completion_id": 2, "service": "S", "handler": "h"},
    {"index": 2, "type": "completion", "completion_id": 1, "result": ID_1},
    {"index": 3, "type": "completion", "completion_id": 2, "result": VALUE},
    {"index": 4, "type": "sleep", "completion_id": 3, "wake_up_at_ms": UNTIL_MS, "name": "nap"},
    {"index": 5, "type": "completion", "completion_id": 3, "result": {"type": "void"}},
    {"index": 6, "type": "output", "result": VALUE},
]  # fmt: skip


def at(second: int) -> str:
    return f"2026-11-22T10:00:0{second}.000000000Z"


def test_moments_are_those_of_the_commits() -> None:
    timed = [{**each, "at": at(index)} for index, each in enumerate(JOURNAL)]
    lines = timeline(DONE, timed, {"inv_1": CHILD})
    assert [each.at for each in lines] == [at(0), at(1), at(4), at(6)]
    assert [each.took_ms for each in lines] == [None, 2_000, 1_000, None]
    assert not any("at=" in each.what for each in lines)


def test_without_moments_the_invocations_tell_what_they_know() -> None:
    lines = timeline(DONE, JOURNAL, {"inv_1": CHILD})
    known = [DONE["created_at"], CHILD["created_at"], None, DONE["completed_at"]]
    assert [each.at for each in lines] == known
    assert [each.took_ms for each in lines] == [None, 500, None, None]


def test_called_invocations_are_looked_up_only_where_the_journal_does_not_tell() -> None:
    timed = [{**each, "at": at(0)} for each in JOURNAL]
    sent = [{**each, "type": "one_way_call"} if each["index"] == 1 else each for each in timed]
    assert [child_ids(each) for each in (JOURNAL, timed, sent)] == [["inv_1"], [], ["inv_1"]]


def test_a_sleep_tells_until_when() -> None:
    timed = [{**each, "at": at(0)} for each in JOURNAL]
    same_day, date_too = (timeline(DONE, each, {})[2].what for each in (timed, JOURNAL))
    assert same_day.startswith("nap until ")
    assert same_day.endswith(":04.000")
    assert date_too.startswith("nap until 2026-11-2")


def test_a_clock_that_was_set_back_takes_no_time() -> None:
    timed = [{**each, "at": at(9 - index)} for index, each in enumerate(JOURNAL)]
    assert [each.took_ms for each in timeline(DONE, timed, {})] == [None, 0, 0, None]


def test_a_command_that_is_kept_as_it_came_has_its_moment_too() -> None:
    verbatim = {
        "index": 1, "type": "run", "at": at(3), "command": {"type": "run", "completion_id": 1, "name": "pay"},
        "wire": {"base64": ""},
    }  # fmt: skip
    (line,) = timeline(DONE, [verbatim], {})
    assert (line.at, line.what, line.state) == (at(3), "pay", "waiting")
