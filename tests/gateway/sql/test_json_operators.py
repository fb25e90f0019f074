"""The JSON operators, rewritten by words."""

import pytest

from perdure.gateway.sql.json_operators import rewrite


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("a -> 'b'", "json_get_json(a, 'b')"),
        ("a ->> 'b'", "json_as_text(a, 'b')"),
        ("a->'b'->>0", "json_as_text(json_get_json(a, 'b'), 0)"),
        ("x.entry_json ->> 'k' = 'v'", "json_as_text(x.entry_json, 'k') = 'v'"),
        ('"x"."y" -> k', 'json_get_json("x"."y", k)'),
        ("f(a, (b)) -> 'c'", "json_get_json(f(a, (b)), 'c')"),
        ("(a || b) -> 'c'", "json_get_json((a || b), 'c')"),
        ("'it''s' -> 'c'", "json_get_json('it''s', 'c')"),
    ],
)
def test_operators_become_calls(written: str, meant: str) -> None:
    assert rewrite(f"select {written} from t") == f"select {meant} from t"


@pytest.mark.parametrize(
    "text",
    [
        "select 1",
        "select '->' from t where x = 'a -> b'",
        'select "a->b" from t',
        "select 1 -- a -> b",
        "select 1 /* a -> 'b' */",
        "-> 'b'",
        "select a ->",
        "select ) -> 'b'",
    ],
)
def test_everything_else_stays_as_it_is(text: str) -> None:
    assert rewrite(text) == text
