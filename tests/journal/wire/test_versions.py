import pytest

from perdure.journal.wire.versions import NEWEST, OLDEST, content_type, negotiate, version_of


def test_content_types_name_the_version() -> None:
    assert content_type(5) == "application/vnd.restate.invocation.v5"
    for version in range(OLDEST, NEWEST + 1):
        assert version_of(content_type(version)) == version


@pytest.mark.parametrize(
    "other",
    [
        *("", "application/json", "application/vnd.restate.invocation.v"),
        *(f"application/vnd.restate.invocation.v{n}" for n in (1, 4, 8, 55, "06", "6 ", "6;a=b")),
        "Application/vnd.restate.invocation.v6",
    ],
)
def test_any_other_content_type_is_none_of_ours(other: str) -> None:
    assert version_of(other) is None


@pytest.mark.parametrize("version", [4, 8])
def test_other_versions_have_no_content_type(version: int) -> None:
    with pytest.raises(KeyError):
        content_type(version)


@pytest.mark.parametrize(
    ("oldest", "newest", "ours", "chosen"),
    [
        (5, 7, 7, 7),
        (5, 7, 6, 6),
        (5, 6, 7, 6),
        (1, 5, 7, 5),
        (5, 9, 7, 7),
        (7, 9, 6, None),
        (8, 8, 7, None),
        (1, 4, 7, None),
        (6, 5, 7, None),
    ],
)
def test_the_highest_common_version_is_chosen(
    oldest: int, newest: int, ours: int, chosen: int | None
) -> None:
    assert negotiate(oldest, newest, ours) == chosen
