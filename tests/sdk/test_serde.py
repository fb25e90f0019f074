"""Serdes: what is written, what is read back, and who is blamed."""

import collections
import dataclasses
import datetime
import enum
import json
import math
import uuid
from collections.abc import Callable, Iterable
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    NamedTuple,
    NotRequired,
    Optional,
    Protocol,
    TypedDict,
    TypeVar,
)

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from restate.serde import DefaultSerde as OfficialDefaultSerde

from perdure.journal.errors import TerminalError, UsageError
from perdure.serde import (
    BytesSerde,
    DefaultSerde,
    JsonSerde,
    MsgspecJsonSerde,
    PydanticJsonSerde,
    Serde,
    read_value,
    write_value,
)

T = TypeVar("T")


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


@dataclasses.dataclass
class Box(Generic[T]):
    inside: T


class Order(msgspec.Struct):
    id: str
    lines: list[Point]


class Model(pydantic.BaseModel):
    name: str
    at: datetime.date | None = None


@pydantic.dataclasses.dataclass
class Checked:
    n: int


class Color(enum.Enum):
    RED = "red"


class Movie(TypedDict):
    title: str
    year: NotRequired[int]


class Shelf(TypedDict):
    movies: list[Movie]
    where: Literal["left", "right"]


class Tree(TypedDict):
    name: str
    children: "list[Tree]"


class Dated(TypedDict):
    day: datetime.date


class Bag(Generic[T]):
    pass


class OneOf(Protocol):
    def pick(self) -> int: ...


class Pair(NamedTuple):
    a: int
    b: str


class Name(str):
    pass


class Plain:
    pass


ROUND_TRIPS: list[tuple[Any, Any]] = [
    (int, 7),
    (int, 2**70),
    (str, "é\u2028"),
    (float, 1.5),
    (bool, False),
    (bytes, b"\x00raw"),
    (list[int], [1, 2]),
    (dict[str, list[int]], {"a": [1]}),
    (tuple[int, str], (1, "a")),
    (set[int], {1, 2}),
    (Point, Point(1, 2)),
    (list[Point], [Point(1)]),
    (Box[int], Box(1)),
    (Order, Order("o", [Point(1)])),
    (Model, Model(name="m", at=datetime.date(2026, 1, 2))),
    (list[Model], [Model(name="m")]),
    (Optional[Model], Model(name="m")),  # noqa: UP045 - both spellings
    (dict[str, Model | None], {"a": Model(name="m"), "b": None}),
    (Checked, Checked(1)),
    (Color, Color.RED),
    (Movie, {"title": "t"}),
    (Pair, Pair(1, "b")),
    (datetime.datetime, datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)),
    (datetime.timedelta, datetime.timedelta(seconds=5)),
    (uuid.UUID, uuid.UUID(int=5)),
    (Literal["a", "b"], "a"),
    (int | str, "x"),
    (Point | None, Point(3)),
    (Annotated[int, msgspec.Meta(ge=0)], 3),
    (Any, {"a": [1, None, "x"]}),
    (object, [1]),
]


@pytest.mark.parametrize(("hint", "value"), ROUND_TRIPS, ids=lambda each: str(each)[:40])
def test_value_comes_back_as_its_type_hint_says(hint: Any, value: Any) -> None:
    serde = DefaultSerde[Any](hint)
    back = serde.deserialize(serde.serialize(value))
    assert back == value
    assert type(back) is type(value)


@pytest.mark.parametrize("hint", [None, int, Point, Order, Model, Point | None, Any])
def test_none_is_no_bytes_and_no_bytes_are_none(hint: Any) -> None:
    serde = DefaultSerde[Any](hint)
    assert serde.serialize(None) == b""
    assert serde.deserialize(b"") is None


def test_empty_bytes_stay_bytes_unless_none_is_allowed() -> None:
    assert DefaultSerde(bytes).deserialize(b"") == b""
    optional: Any = bytes | None
    assert DefaultSerde[Any](optional).deserialize(b"") is None
    assert BytesSerde().deserialize(b"") == b""
    assert BytesSerde().serialize(None) == b""


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(json_values)
def test_without_a_hint_the_official_serde_reads_what_is_written_and_the_reverse(
    value: Any,
) -> None:
    ours, theirs = DefaultSerde[Any](), OfficialDefaultSerde[Any]()
    written, expected = ours.serialize(value), theirs.serialize(value)
    assert repr(theirs.deserialize(written)) == repr(theirs.deserialize(expected))
    assert repr(ours.deserialize(expected)) == repr(theirs.deserialize(expected))
    assert repr(ours.deserialize(written)) == repr(theirs.deserialize(expected))


@given(st.text(st.characters(codec=None), max_size=8))
def test_lone_surrogates_survive(text: str) -> None:
    for serde in (DefaultSerde[Any](), DefaultSerde[Any](str), JsonSerde[Any]()):
        assert serde.deserialize(serde.serialize(text)) == text


@pytest.mark.parametrize(
    "value", [math.inf, -math.inf, [1.0, math.inf], {"a": None, "b": math.inf}]
)
def test_infinities_are_not_turned_into_null(value: Any) -> None:
    assert json.loads(JsonSerde[Any]().serialize(value)) == value


def test_nan_in_a_dataclass_survives_with_its_hint() -> None:
    @dataclasses.dataclass
    class Measured:
        value: float

    serde = DefaultSerde(Measured)
    back = serde.deserialize(serde.serialize(Measured(math.nan)))
    assert back is not None
    assert math.isnan(back.value)


@pytest.mark.parametrize(
    "value",
    [
        Name("x"),
        collections.OrderedDict(a=1),
        collections.Counter("aab"),
        {None: 1},
        {True: 1},
        (1, 2),
    ],
)
def test_what_the_standard_library_serializes_is_serialized(value: Any) -> None:
    assert json.loads(DefaultSerde[Any]().serialize(value)) == json.loads(json.dumps(value))


def test_dataclass_struct_and_model_are_serialized_without_a_hint() -> None:
    value = {"p": Point(1), "o": Order("o", []), "m": Model(name="m")}
    assert json.loads(DefaultSerde[Any]().serialize(value)) == {
        "p": {"x": 1, "y": 0},
        "o": {"id": "o", "lines": []},
        "m": {"name": "m", "at": None},
    }


@pytest.mark.parametrize("hint", [Plain, Point | Order, list[Plain], T, "forward"])
def test_a_hint_that_no_library_understands_reads_plain_json(hint: Any) -> None:
    assert DefaultSerde[Any](hint).deserialize(b'[{"x":1}]') == [{"x": 1}]


def test_serde_of_a_hint_is_made_once() -> None:
    default = DefaultSerde[Any]()
    assert default.with_maybe_type(Point) is default.with_maybe_type(Point)
    assert default.with_maybe_type(Point) is not default.with_maybe_type(Order)
    assert default.with_maybe_type(Point).type_hint is Point
    assert default.type_hint is None


def test_unhashable_hint_is_no_error() -> None:
    hint: Any = Annotated[int, {"a": 1}]
    assert DefaultSerde[Any]().with_maybe_type(hint).deserialize(b"3") == 3


def test_model_serdes_read_and_write_their_model() -> None:
    model, order = Model(name="m"), Order("o", [])
    assert PydanticJsonSerde(Model).deserialize(model.model_dump_json().encode()) == model
    assert PydanticJsonSerde(Model).serialize(model) == model.model_dump_json().encode()
    assert MsgspecJsonSerde(Order).deserialize(MsgspecJsonSerde(Order).serialize(order)) == order
    for serde in (MsgspecJsonSerde[Any](Order), PydanticJsonSerde[Any](Model)):
        assert serde.serialize(None) == b""
        assert serde.deserialize(b"") is None


# ---- blame --------------------------------------------------------------------------------------


async def _coroutine() -> int:
    return 1


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (Plain, "cannot serialize state 'count', a value of type Plain"),
        (lambda: {"a": Plain()}, "cannot serialize state 'count', a value of type dict"),
        (_coroutine, "state 'count' is a coroutine that was not awaited: await it"),
        (lambda: b"raw", "state 'count' is bytes, but nothing says that it is raw"),
    ],
)
def test_a_value_that_cannot_be_written_is_a_usage_error_with_place_and_remedy(
    make: Any, says: str
) -> None:
    with pytest.raises(UsageError) as caught:
        write_value(DefaultSerde[Any](), make(), "state", "count")
    assert says in caught.value.message


def test_bytes_that_do_not_fit_the_hint_are_a_usage_error() -> None:
    with pytest.raises(
        UsageError, match=r"cannot read state 'count' as int: Expected `int`, got `str`"
    ):
        read_value(DefaultSerde(int), b'"x"', "state", "count")
    with pytest.raises(
        UsageError, match=r"cannot read state 'count' as Model: .*name.*Field required"
    ):
        read_value(DefaultSerde(Model), b"{}", "state", "count")
    with pytest.raises(
        UsageError, match=r"cannot read the answer as DefaultSerde: .*begin with b'\\xff'"
    ):
        read_value(DefaultSerde[Any](), b"\xff", "the answer")


class Wrong(Serde[Any]):
    def serialize(self, obj: Any) -> bytes:
        return "text"  # type: ignore[return-value]

    def deserialize(self, buf: bytes) -> Any:
        raise TerminalError("refused", 422)


def test_a_serde_that_does_not_return_bytes_is_named() -> None:
    with pytest.raises(UsageError, match=r"Wrong.serialize returned str for state 'count'"):
        write_value(Wrong(), 1, "state", "count")


def test_a_terminal_error_of_a_serde_is_not_wrapped() -> None:
    with pytest.raises(TerminalError, match="refused") as caught:
        read_value(Wrong(), b"1", "state")
    assert caught.value.status_code == 422


def test_bytearray_and_memoryview_are_written_as_bytes() -> None:
    for value in (bytearray(b"ab"), memoryview(b"ab")):
        assert write_value(BytesSerde(), value, "x") == b"ab"
        assert write_value(DefaultSerde[Any](bytes), value, "x") == b"ab"


# ---- hints of ported programs -----------------------------------------------------------------------


@pytest.mark.parametrize("hint", [Movie, list[Movie], dict[str, Movie | None], Shelf])
def test_a_typed_dict_keeps_the_keys_that_it_does_not_declare(hint: Any) -> None:
    movie = {"title": "Alien", "year": 1979, "more": [1]}
    values = {Movie: movie, list[Movie]: [movie], Shelf: {"movies": [movie], "where": "left"}}
    value = values.get(hint, {"best": movie})
    assert DefaultSerde[Any](hint).deserialize(json.dumps(value).encode()) == value


def test_a_typed_dict_may_be_inside_itself() -> None:
    tree = {"name": "a", "children": [{"name": "b", "children": [], "color": "red"}]}
    assert DefaultSerde[Any](Tree).deserialize(json.dumps(tree).encode()) == tree


def test_a_typed_dict_is_checked() -> None:
    with pytest.raises(msgspec.ValidationError, match="year"):
        DefaultSerde[Any](Movie).deserialize(b'{"title": "Alien", "year": "long ago"}')


def test_a_typed_dict_with_more_than_json_is_converted() -> None:
    found = DefaultSerde[Any](Dated).deserialize(b'{"day": "2026-01-02"}')
    assert found == {"day": datetime.date(2026, 1, 2)}


@pytest.mark.parametrize("hint", [Iterable[int], Callable[[], int], type[int], Bag[int], OneOf])
def test_a_hint_of_something_abstract_reads_what_json_says(hint: Any) -> None:
    assert DefaultSerde[Any](hint).deserialize(b"[1, 2]") == [1, 2]


def test_errors_are_caught_by_the_names_of_what_a_serde_would_raise() -> None:
    with pytest.raises(ValueError, match="cannot read state 'n' as int"):
        read_value(DefaultSerde(int), b'"x"', "state", "n")
    with pytest.raises(TypeError, match="cannot serialize state 'n'"):
        write_value(DefaultSerde(), object(), "state", "n")
