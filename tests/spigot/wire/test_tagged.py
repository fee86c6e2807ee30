"""Tagged JSON: exact both ways, and strict about what it reads."""

from __future__ import annotations

import math
from collections import OrderedDict
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spigot_topologies.errors import WireError, show
from spigot_topologies.values import Char, FrozenMap, Keyword, Symbol, Tagged, Text, Vector
from spigot_topologies.values.tagged import CROWD, MAX_DEPTH, dumps, from_tagged, loads, to_tagged
from tests.spigot.wire.samples import same, values

FORMS: list[tuple[Any, Any]] = [
    (("spigot/get", "?x"), {"$list": ["spigot/get", "?x"]}),
    ({"a": [1, (2,)]}, {"a": [1, {"$list": [2]}]}),
    (Keyword("a"), {"$kw": "a"}),
    (Symbol("?a"), {"$sym": "?a"}),
    (Char("a"), {"$char": "a"}),
    (Text("a"), {"$str": "a"}),
    ({Keyword("a"): 1, 2: None}, {"$map": [[{"$kw": "a"}, 1], [2, None]]}),
    ({"$x": 1}, {"$map": [["$x", 1]]}),
    ({"a": {"$list": [1]}}, {"a": {"$map": [["$list", [1]]]}}),
    (frozenset({1, 2}), {"$set": [1, 2]}),
    (frozenset({Vector([1]), (1, 2)}), {"$set": [[1], {"$list": [1, 2]}]}),
    (frozenset({FrozenMap({"a": Vector([1])})}), {"$set": [{"a": [1]}]}),
    (UUID(int=1), {"$uuid": "00000000-0000-0000-0000-000000000001"}),
    (datetime(2026, 1, 2, 3, 4, 5, 678000, UTC), {"$inst": "2026-01-02T03:04:05.678-00:00"}),
    (2**63, {"$bigint": "9223372036854775808"}),
    (Decimal("1.50"), {"$bigdec": "1.50"}),
    (Fraction(1, 3), {"$ratio": [1, 3]}),
    (Tagged("a/b", (1,)), {"$tagged": ["a/b", {"$list": [1]}]}),
]


@pytest.mark.parametrize(("value", "form"), FORMS, ids=[str(form) for _, form in FORMS])
def test_forms(value: Any, form: Any) -> None:
    assert to_tagged(value) == form
    assert same(from_tagged(form), value)
    assert same(loads(dumps(value)), value)


@given(values)
def test_what_is_written_is_read_again(value: Any) -> None:
    assert same(loads(dumps(value)), value)


@given(values)
def test_equal_values_have_equal_bytes(value: Any) -> None:
    assert dumps(loads(dumps(value))) == dumps(value)


@given(values)
def test_no_tag_needs_another_reader_than_json(value: Any) -> None:
    assert orjson.loads(dumps(value)) == to_tagged(value)


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        [math.inf],
        {"a": -math.inf},
        object(),
        b"bytes",
        datetime(2026, 1, 1),
        Decimal("NaN"),
        "\ud800",
        10**5000,
        {"a": {object(): 1}},
    ],
    ids=lambda value: show(value, 20),
)
def test_refuses_to_write(value: Any) -> None:
    with pytest.raises(WireError) as caught:
        dumps(value)
    assert caught.value.reason == "unwritable"


@pytest.mark.parametrize(
    ("data", "detail"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"NaN", "not JSON"),
        (b'"\xff"', "not JSON"),
        (b'{"$foo":1}', "unknown tag"),
        (b'{"$list":[1],"a":2}', "among other keys"),
        (b'{"a":1,"$x":2}', "among other keys"),
        (b'{"\\u0024foo":1}', "unknown tag"),
        (b'{"$list":1}', "a list was expected"),
        (b'{"$uuid":"1"}', "not a UUID"),
        (b'{"$uuid":1}', "a string was expected"),
        (b'{"$inst":"2026-13-01"}', "month"),
        (b'{"$bigdec":"NaN"}', "not a decimal"),
        (b'{"$bigdec":"1_0"}', "not a decimal"),
        (b'{"$bigint":"x"}', "not a whole number"),
        (b'{"$bigint":"' + b"1" * 5000 + b'"}', "not a whole number"),
        (b'{"$ratio":[1,0]}', "whole numbers"),
        (b'{"$ratio":[1.5,2]}', "whole numbers"),
        (b'{"$map":[[1]]}', "pairs"),
        (b'{"$map":{"a":1}}', "pairs"),
        (b'{"$map":[[{"$kw":"a"},1],["a",2]]}', "equal in Python"),
        (b'{"$set":[1,1.0]}', "equal in Python"),
        (b'{"$tagged":[1,2]}', "a tag and a value"),
    ],
)
def test_refuses_to_read(data: bytes, detail: str) -> None:
    with pytest.raises(WireError) as caught:
        loads(data)
    assert caught.value.reason == "unreadable"
    assert detail in caught.value.detail


def test_refuses_other_data_than_json() -> None:
    for data in ({1: 2}, (1,), math.nan, object(), [UUID(int=1)]):
        with pytest.raises(WireError):
            from_tagged(data)


@pytest.mark.parametrize("wrap", [lambda inner: [inner], lambda inner: {"a": inner}, lambda inner: {"a": [1, inner]}])
def test_deeper_than_orjson_writes(wrap: Any) -> None:
    value: Any = 1
    for _ in range(MAX_DEPTH // 2 - 1):
        value = wrap(value)
    assert loads(dumps(value)) == value


@pytest.mark.parametrize(
    "data",
    [b"[" * 600 + b"]" * 600, b'{"a":' * 600 + b"1" + b"}" * 600, b'{"$list":[' * 300 + b"]}" * 300, b"[" * 100_000],
)
def test_depth_is_limited(data: bytes) -> None:
    with pytest.raises(WireError):
        loads(data)


def test_keys_that_collide_on_purpose() -> None:
    pairs = [[{"$bigint": str(at * (2**61 - 1))}, 0] for at in range(1, CROWD + 2)]
    with pytest.raises(WireError, match="same hash"):
        from_tagged({"$map": pairs})


@given(st.binary(max_size=40))
def test_any_bytes_are_a_value_or_unreadable(data: bytes) -> None:
    read_or_unreadable(data)


json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=5) | st.sampled_from(["1", "a"]),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.text(max_size=3), inner, max_size=3),
        st.dictionaries(
            st.sampled_from([next(iter(form)) for _, form in FORMS if len(form) == 1]), inner, min_size=1, max_size=1
        ),
    ),
    max_leaves=8,
)


@given(json)
def test_any_json_is_a_value_or_unreadable(data: Any) -> None:
    read_or_unreadable(orjson.dumps(data))


def read_or_unreadable(data: bytes) -> None:
    try:
        value = loads(data)
    except WireError as error:
        reason = error.reason
    else:
        reason = "unreadable"
        assert same(loads(dumps(value)), value)
    assert reason == "unreadable"


def test_subclasses() -> None:
    assert to_tagged(OrderedDict(a=1)) == {"a": 1}
    assert to_tagged({1: True}) == {"$map": [[1, True]]}


def test_frozen_collections() -> None:
    vector, frozen = Vector([1, 2]), FrozenMap({"a": 1})
    assert vector == [1, 2]
    assert vector == (1, 2)
    assert vector != [1]
    assert hash(vector) == hash((1, 2))
    assert frozen == {"a": 1}
    assert hash(frozen) == hash(FrozenMap({"a": 1}))
    for change in (lambda: frozen.update(b=2), lambda: frozen.pop("a"), frozen.clear):
        with pytest.raises(TypeError, match="cannot be changed"):
            change()
    with pytest.raises(TypeError, match="cannot be changed"):
        frozen["b"] = 2
