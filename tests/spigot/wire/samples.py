"""The recorded messages of the original, each with its meaning, and the values the tests are about."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
from attrs import frozen
from hypothesis import strategies as st

from spigot_topologies.values import Char, Keyword, Symbol, Tagged, Text
from spigot_topologies.values.frozen import freeze
from spigot_topologies.values.tagged import build_map, build_set

SAMPLES = Path(__file__).parents[2] / "data" / "spigot" / "wire_samples.edn"


@frozen
class Sample:
    """One recorded message: its text, and what the JSON beside it says it means."""

    name: str
    topic: str
    key_text: str
    key: Any
    text: str
    value: Any


def meaning(data: Any) -> Any:
    """A value from the recordings' own notation: `":k"` a keyword, `"'s"` a key that is a symbol, `$` tags."""
    if isinstance(data, str):
        return Keyword(data[1:]) if data[:1] == ":" else data
    if isinstance(data, list):
        return [meaning(item) for item in data]
    if not isinstance(data, dict):
        return data
    if len(data) == 1 and next(iter(data))[:1] == "$":
        ((tag, argument),) = data.items()
        return _TAGS[tag](argument)
    flat = []
    for key, item in data.items():
        flat += [Symbol(key[1:]) if key[:1] == "'" else meaning(key), meaning(item)]
    return build_map(flat)


_TAGS: dict[str, Any] = {
    "$sym": Symbol,
    "$list": lambda items: tuple(map(meaning, items)),
    "$set": lambda items: build_set([*map(meaning, items)]),
    "$map": lambda pairs: build_map([meaning(part) for pair in pairs for part in pair]),
    "$uuid": UUID,
    "$char": Char,
    "$ratio": lambda pair: Fraction(*pair),
    "$bigint": int,
    "$bigdec": Decimal,
    "$inst": lambda text: datetime.fromisoformat(text.replace("-00:00", "+00:00")),
    "$float": lambda text: math.nan if text == "NaN" else math.inf if text == "Infinity" else -math.inf,
    "$str": str,
}


def load_samples() -> list[Sample]:
    lines = SAMPLES.read_text().splitlines()
    samples = []
    for text, about in zip(lines[::2], lines[1::2], strict=True):
        data = orjson.loads(about)
        value = meaning(data["value"])
        samples.append(Sample(data["name"], data["topic"], data["key_edn"], meaning(data["key"]), text, value))
    return samples


def same(left: Any, right: Any) -> bool:
    """Equal, of equal kinds at every depth; NaN equals NaN. (`==` takes `:a`, `"a"` and `\\a` for the same.)"""
    if _kind(left) is not _kind(right):
        return False
    if isinstance(left, dict):
        kinds = {key: key for key in right}
        return len(left) == len(right) and all(
            key in right and same(key, kinds[key]) and same(item, right[key]) for key, item in left.items()
        )
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, frozenset):
        kinds = {item: item for item in right}
        return left == right and all(same(item, kinds[item]) for item in left)
    if isinstance(left, Tagged):
        return left.tag == right.tag and same(left.value, right.value)
    return left == right or (left != left and right != right)


def _kind(value: Any) -> type:
    return str if type(value) is Text else type(value)


names = st.from_regex(r"[a-zA-Z?*!_<>=$%&][a-zA-Z0-9?*!_<>=.+-]{0,6}(/[a-z?][a-z0-9-]{0,4})?", fullmatch=True).filter(
    lambda name: name not in ("nil", "true", "false")
)
atoms = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**80), 2**80),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
    names.map(Keyword),
    names.map(Symbol),
    st.uuids(),
    st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs"]).map(Char),
    st.decimals(allow_nan=False, allow_infinity=False),
    st.fractions().filter(lambda value: value.denominator != 1),
    st.datetimes(min_value=datetime(2, 1, 1), max_value=datetime(9998, 1, 1)).map(lambda at: at.replace(tzinfo=UTC)),
)


def collections(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Everything that holds values, built as the readers build it."""
    items = st.lists(inner, max_size=4)
    return st.one_of(
        items,
        items.map(tuple),
        items.map(_set),
        st.lists(st.tuples(inner, inner), max_size=4).map(_map),
        st.dictionaries(st.text(max_size=4), inner, max_size=4),
        st.builds(Tagged, st.from_regex(r"[a-z]{1,3}/[a-z]{1,3}", fullmatch=True), inner),
    )


def _set(items: list[Any]) -> Any:
    unique: list[Any] = []
    for item in map(freeze, items):
        if item not in unique:
            unique.append(item)
    return build_set(unique)


def _map(pairs: list[tuple[Any, Any]]) -> Any:
    flat: list[Any] = []
    for key, item in [(freeze(key), item) for key, item in pairs]:
        if key not in flat[::2]:
            flat += [key, item]
    return build_map(flat)


values = st.recursive(atoms, collections, max_leaves=12)
