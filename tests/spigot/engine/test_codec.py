"""The exact codec for state."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spigot_topologies.values import Char, FrozenMap, Keyword, Symbol, Tagged, Vector, codec

atoms = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters())
    | st.binary()
    | st.uuids()
    | st.dates()
    | st.datetimes(timezones=st.just(UTC)).map(lambda moment: moment.replace(fold=0))
    | st.decimals(allow_nan=False)
    | st.fractions()
    | st.builds(Keyword, st.text())
    | st.builds(Symbol, st.text())
    | st.builds(Char, st.characters())
)
hashable = st.recursive(
    atoms,
    lambda inner: (
        st.lists(inner, max_size=3).map(tuple)
        | st.lists(inner, max_size=3).map(Vector)
        | st.dictionaries(inner, inner, max_size=3).map(FrozenMap)
        | st.frozensets(inner, max_size=3)
    ),
    max_leaves=5,
)
values = st.recursive(
    atoms | hashable,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(hashable, inner, max_size=4)
        | st.sets(hashable, max_size=4)
        | st.builds(Tagged, st.text(), inner)
    ),
    max_leaves=15,
)


def shape(value: Any) -> Any:
    """The value with the type of everything in it; sets and maps in one order."""
    kind = type(value)
    if kind in (list, tuple, Vector):
        return (kind, [shape(item) for item in value])
    if kind in (set, frozenset):
        return (kind, sorted((shape(item) for item in value), key=repr))
    if kind in (dict, FrozenMap):
        return (kind, [(shape(key), shape(item)) for key, item in value.items()])
    if kind is Tagged:
        return (kind, value.tag, shape(value.value))
    return (kind, repr(value))


@given(values)
def test_roundtrip_keeps_values_types_and_order(value: Any) -> None:
    again = codec.decode(codec.encode(value))
    assert shape(again) == shape(value)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(st.characters(codec="utf-8")),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
    )
)
def test_plain_values_take_the_plain_form(value: Any) -> None:
    assert codec.encode(value)[:1] == b"\x01"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -0.0, 2**64, -(2**63) - 1, "\ud800", {"\ud800": 1}])
def test_what_json_would_spoil(value: Any) -> None:
    assert shape(codec.decode(codec.encode(value))) == shape(value)


def test_any_depth() -> None:
    value: Any = [1]
    for depth in range(100_000):
        value = [value] if depth % 2 else {"k": value}
    again = codec.decode(codec.encode(value))
    for _ in range(100_000):
        assert type(again) is type(value)
        again, value = (again[0], value[0]) if type(value) is list else (again["k"], value["k"])
    assert again == [1]


def test_unknown_types_and_formats_are_refused() -> None:
    with pytest.raises(TypeError, match=r"state cannot hold a builtins\.object"):
        codec.encode([object()])
    with pytest.raises(ValueError, match="newer version"):
        codec.decode(b"\x7f{}")


def test_kinds_equal_their_text() -> None:
    assert Keyword("a") == Symbol("a") == Char("a") == "a"
    assert {Keyword("a"): 1}["a"] == 1
    assert [repr(kind("a")) for kind in (Keyword, Symbol, Char)] == ["Keyword('a')", "Symbol('a')", "Char('a')"]
    assert Tagged("x/y", 1) == Tagged("x/y", 1)
    everything = [UUID(int=1), date(2013, 2, 8), datetime(2013, 2, 8, tzinfo=UTC), Decimal("1.10"), Fraction(1, 3)]
    assert codec.decode(codec.encode(everything)) == everything
