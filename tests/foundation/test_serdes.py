"""Serdes: Java's bytes, round trips, refusals."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from attrs import define, frozen
from hypothesis import given
from hypothesis import strategies as st

from streamlet import serdes
from streamlet.errors import SerializationError

RECORDINGS = Path(__file__).parents[3] / "shared" / "kafka_streams" / "bytes.json"


@frozen
class Point:
    x: int
    y: float | None = None


@frozen
class Route:
    name: str
    points: tuple[Point, ...] = ()


@frozen
class Bag:
    items: list[int]


@define
class Changeable:
    n: int


@dataclass(frozen=True)
class Reading:
    at: datetime
    by: uuid.UUID
    tags: tuple[str, ...] = ()


@dataclass
class Loose:
    values: dict[str, int] = field(default_factory=dict)


class Colour(Enum):
    RED = "red"


@pytest.mark.parametrize(
    ("serde", "value", "expected"),
    [
        (serdes.int64, -1, "ffffffffffffffff"),
        (serdes.int64, 1700000000000, "0000018bcfe56800"),
        (serdes.int32, 42, "0000002a"),
        (serdes.int16, -2, "fffe"),
        (serdes.float64, 1.5, "3ff8000000000000"),
        (serdes.float32, 1.5, "3fc00000"),
        (serdes.boolean, True, "01"),
        (serdes.string, "é", "c3a9"),
        (serdes.bytes_, b"\x00\xff", "00ff"),
        (serdes.uuid, uuid.UUID("123e4567-e89b-12d3-a456-426614174000"), b"123e4567-e89b-12d3-a456-426614174000".hex()),
    ],
)
def test_bytes_are_those_of_javas_serdes(serde: Any, value: Any, expected: str) -> None:
    assert serde.serialize(value).hex() == expected
    assert serde.deserialize(bytes.fromhex(expected)) == value
    assert serde.encoder(value) == serde.serialize(value)
    assert serde.decoder(bytes.fromhex(expected)) == value
    assert serde.serialize(None) is None
    assert serde.deserialize(None) is None


@pytest.mark.skipif(not RECORDINGS.exists(), reason="the recordings of Kafka Streams are not beside the repository")
def test_recorded_vectors() -> None:
    readers: dict[str, tuple[Any, Any]] = {
        "long_serde": (serdes.int64, int),
        "int_serde": (serdes.int32, int),
        "double_serde": (serdes.float64, float),
        "uuid_serde": (serdes.uuid, uuid.UUID),
        "boolean_serde": (serdes.boolean, lambda text: text == "true"),
    }
    vectors = [v for v in json.loads(RECORDINGS.read_text())["vectors"] if v["kind"] in readers]
    assert vectors
    for vector in vectors:
        serde, read = readers[vector["kind"]]
        assert serde.serialize(read(vector["input"])).hex() == vector["output"], vector


@given(st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
).filter(lambda value: value is not None))  # fmt: skip
def test_json_round_trip(value: Any) -> None:
    assert serdes.json.deserialize(serdes.json.serialize(value)) == value


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize(
    "wrap", [lambda n: n, lambda n: [1, n], lambda n: {"a": {"b": (n,)}}, lambda n: [None, {"x": n}]]
)
def test_json_refuses_what_json_cannot_say(number: float, wrap: Any) -> None:
    with pytest.raises(SerializationError, match="NaN"):
        serdes.json.serialize(wrap(number))
    with pytest.raises(SerializationError, match="NaN"):
        serdes.json_of(Point).serialize(Point(1, number))


def test_json_keeps_null_and_the_word() -> None:
    assert serdes.json.deserialize(serdes.json.serialize({"a": None, "null": "null"})) == {"a": None, "null": "null"}


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        (Point, Point(1, 2.5)),
        (Route, Route("p", (Point(1), Point(2, 0.5)))),
        (Bag, Bag([1, 2])),
        (Reading, Reading(datetime(2013, 2, 8, 12, tzinfo=UTC), uuid.UUID(int=7), ("a", "b"))),
        (Loose, Loose({"a": 1})),
        (list[int], [1, 2]),
        (dict[str, Point], {"a": Point(1)}),
        (Colour, Colour.RED),
    ],
)
def test_json_of_round_trip(type_: Any, value: Any) -> None:
    serde: Any = serdes.json_of(type_)
    assert serde.deserialize(serde.serialize(value)) == value


def test_json_of_names_the_field_that_does_not_fit() -> None:
    with pytest.raises(SerializationError, match=r"json_of\(Point\).*attribute x"):
        serdes.json_of(Point).deserialize(b'{"x": "one"}')
    with pytest.raises(SerializationError, match=r"json_of\(Point\).*expected a Point, got dict"):
        serdes.json_of(Point).serialize({"x": 1})
    with pytest.raises(SerializationError, match=r"json_of\(Point\)"):
        serdes.json_of(Point).deserialize(b"{")


@pytest.mark.parametrize(
    ("type_", "immutable"),
    [
        (Point, True), (Route, True), (Reading, True), (Colour, True), (int, True), (str | None, True),
        (tuple[int, ...], True),
        (Decimal, True), (Bag, False), (Changeable, False), (Loose, False), (list[int], False), (dict[str, int], False),
        (tuple[list[int], ...], False), (Any, False),
    ],
)  # fmt: skip
def test_immutability_is_seen_through_fields(type_: Any, immutable: bool) -> None:
    assert serdes.is_immutable(type_) is immutable
    assert serdes.json_of(type_).immutable is immutable


@pytest.mark.parametrize(
    ("serde", "value"),
    [
        (serdes.string, 3), (serdes.int64, "3"), (serdes.int64, 2**63), (serdes.bytes_, "text"), (serdes.boolean, 1),
        (serdes.uuid, "123e4567-e89b-12d3-a456-426614174000"), (serdes.json, {1, 2}), (serdes.json, object()),
    ],
)  # fmt: skip
def test_wrong_values_are_refused_with_the_serdes_name(serde: Any, value: Any) -> None:
    with pytest.raises(SerializationError, match=serde.name.split("(")[0]):
        serde.serialize(value)


@given(st.binary(max_size=40))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    for serde in (
        serdes.string, serdes.int16, serdes.int32, serdes.int64, serdes.float32, serdes.float64, serdes.boolean,
        serdes.uuid,
        serdes.json, serdes.json_of(Point),
    ):  # fmt: skip
        try:
            serde.deserialize(data)
        except SerializationError as error:
            assert repr(serde).removeprefix("serdes.") in str(error)  # noqa: PT017  # either outcome is right
