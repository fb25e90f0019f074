"""The version of a key's state, as clients compute it: admin 5.5."""

from hypothesis import given
from hypothesis import strategies as st

from perdure.journal.state_version import state_version


def test_the_version_of_no_state_is_the_published_one() -> None:
    assert state_version({}) == "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU"


def test_the_version_of_two_keys_is_the_published_one_in_any_order() -> None:
    expected = "Tg-2Vay-ZHKgGPavIPAKedesSZCxrUWX1P49UxBEblo"
    assert state_version({"note": b'"hello"', "count": b"5"}) == expected
    assert state_version({"count": b"5", "note": b'"hello"'}) == expected


states = st.dictionaries(st.text(max_size=3), st.binary(max_size=3), max_size=4)


@given(states, states)
def test_different_states_have_different_versions(
    one: dict[str, bytes], other: dict[str, bytes]
) -> None:
    assert (state_version(one) == state_version(other)) == (one == other)
