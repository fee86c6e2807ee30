"""Values as JSON, with tags for what JSON lacks: the form of `plan.dumps` and of the wire between Python processes.

| value | form |
|---|---|
| `None`, `bool`, `str`, 64-bit `int`, finite `float`, `list`, `dict` with `str` keys | as it is |
| `tuple` (Clojure's list; in a plan, an expression) | `{"$list": [...]}` |
| `set`, `frozenset` | `{"$set": [...]}` |
| `dict` with other keys, or with a key that starts with `$` | `{"$map": [[key, value], ...]}` |
| `Keyword`, `Symbol`, `Char`, `Text` | `{"$kw": text}`, `{"$sym": text}`, `{"$char": text}`, `{"$str": text}` |
| `UUID`, `datetime` with a time zone | `{"$uuid": text}`, `{"$inst": text in UTC}` |
| larger `int`, `Decimal`, `Fraction` | `{"$bigint": text}`, `{"$bigdec": text}`, `{"$ratio": [n, d]}` |
| `Tagged` | `{"$tagged": [tag, value]}` |

A tagged map has exactly one key, and an unknown tag is refused. NaN and the infinities are refused: JSON has none, and
orjson would write null in silence. Elements of sets and keys of maps come back hashable (`values.frozen`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from math import isfinite
from typing import Any
from uuid import UUID

import orjson

from spigot_topologies.errors import WireError, show
from spigot_topologies.values.frozen import Vector, freeze
from spigot_topologies.values.kinds import Char, Keyword, Symbol, Tagged, Text

__all__ = [
    "CROWD",
    "MAX_DEPTH",
    "MAX_DIGITS",
    "build_map",
    "build_set",
    "decimal_from_text",
    "dumps",
    "from_tagged",
    "inst_from_text",
    "inst_to_text",
    "kind_name",
    "loads",
    "to_tagged",
    "uuid_from_text",
]

MAX_DEPTH = 512
"""Levels of nesting a text may have. A plan may be 256 deep; beyond this, code that walks values runs out of stack."""

MAX_DIGITS = 4300
"""Digits a number may have: above, Python's own conversion is quadratic, and refused by the interpreter's default."""

_MIN_INT, _MAX_INT = -(2**63), 2**63 - 1
_PLAIN = frozenset({str, bool, type(None)})


def dumps(value: Any) -> bytes:
    """The value as tagged JSON in UTF-8.

    Raises:
        WireError: `unwritable`: something inside has no form in JSON, or it is nested more than `MAX_DEPTH` deep.
    """
    tagged = to_tagged(value)
    try:
        return orjson.dumps(tagged)
    except orjson.JSONEncodeError:  # more than orjson's 254 levels, or a lone surrogate
        try:
            return json.dumps(tagged, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
        except UnicodeEncodeError as error:
            raise WireError("unwritable", "a string with half a surrogate pair has no form in UTF-8") from error
        except RecursionError:
            raise _too_deep("unwritable") from None


def loads(data: bytes) -> Any:
    """The value `dumps` wrote.

    Raises:
        WireError: `unreadable`: the bytes are not JSON, or their tags are wrong.
    """
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise WireError("unreadable", f"not JSON: {error.msg}", error.pos) from error
    if b"$" not in data and b"\\u0024" not in data and data.count(b"[") + data.count(b"{") <= MAX_DEPTH:
        return value  # no tag anywhere, not even written as an escape, and not too deep
    return from_tagged(value)


def to_tagged(value: Any) -> Any:
    """The value as plain JSON data, with the tags of this module.

    Raises:
        WireError: `unwritable`, as for `dumps`.
    """
    try:
        return _tag(value, 0)
    except RecursionError:
        raise _too_deep("unwritable") from None


def from_tagged(data: Any) -> Any:
    """The value `to_tagged` made this data from.

    Raises:
        WireError: `unreadable`: an unknown tag, a tag among other keys, or a wrong value under a tag.
    """
    try:
        return _untag(data, 0)
    except RecursionError:
        raise _too_deep("unreadable") from None


def _tag(value: Any, depth: int) -> Any:
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is int:
        return value if _MIN_INT <= value <= _MAX_INT else {"$bigint": _digits(value)}
    if depth >= MAX_DEPTH:
        raise _too_deep("unwritable")
    if kind is dict:
        plain = {}
        for key, item in value.items():
            if type(key) is not str or key[:1] == "$":
                return _tag_map(value, depth)
            plain[key] = item if type(item) in _PLAIN else _tag(item, depth + 1)
        return plain
    if kind is list or kind is tuple:
        below = depth + (1 if kind is list else 2)
        items = []  # neither a helper nor a comprehension: each would cost a frame for each level of nesting
        for item in value:
            items.append(item if type(item) in _PLAIN else _tag(item, below))
        return items if kind is list else {"$list": items}
    write = _WRITERS.get(kind)
    if write is not None:
        return write(value)
    return _tag_other(value, depth)


def _tag_items(values: Any, depth: int) -> list[Any]:
    return [item if type(item) in _PLAIN else _tag(item, depth + 1) for item in values]


def _tag_map(values: Mapping[Any, Any], depth: int) -> dict[str, Any]:
    pairs = []
    for key, item in values.items():
        pairs.append([_tag(key, depth + 3), _tag(item, depth + 3)])
    return {"$map": pairs}


def _tag_other(value: Any, depth: int) -> Any:
    """Rare kinds, and subclasses: an enum of strings is a string, a namedtuple a tuple, a defaultdict a map."""
    if isinstance(value, set | frozenset):
        items = _tag_items(value, depth + 1)
        return {"$set": sorted(items, key=_sort_key) if len(items) > 1 else items}
    if isinstance(value, Tagged):
        return {"$tagged": [value.tag, _tag(value.value, depth + 2)]}
    if isinstance(value, float):
        return _finite(float(value))
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return _tag(int(value), depth)
    if isinstance(value, Mapping):
        return _tag(dict(value), depth)
    if isinstance(value, list | Vector):
        return _tag_items(value, depth)
    if isinstance(value, tuple):
        return {"$list": _tag_items(value, depth + 1)}
    for kind, write in _WRITERS.items():
        if isinstance(value, kind):
            return write(value)
    raise WireError("unwritable", f"a {kind_name(value)} has no form in a message: {show(value, 200)}")


def _sort_key(item: Any) -> str:
    return json.dumps(item, sort_keys=True)  # sets have no order; one order makes equal values equal bytes


def _finite(value: float) -> float:
    if not isfinite(value):
        raise WireError("unwritable", f"JSON has no {value}; send null, or a string, or use the EDN codec")
    return value


def _digits(value: int) -> str:
    try:
        return str(value)
    except ValueError as error:
        raise WireError("unwritable", f"a whole number of more than {MAX_DIGITS} digits") from error


def _decimal_to_text(value: Decimal) -> str:
    if not value.is_finite():
        raise WireError("unwritable", f"the decimal {value} has no form in a message")
    return str(value)


def decimal_from_text(text: str) -> Decimal:
    """The decimal; the text must be a plain decimal number, maybe with an exponent.

    Raises:
        ValueError: it is not, or its exponent is beyond what decimals hold.
    """
    if not _DECIMAL.fullmatch(text):
        raise ValueError(f"not a decimal number: {show(text)}")
    try:
        value = Decimal(text)
    except InvalidOperation:
        value = Decimal("NaN")
    if not value.is_finite():
        raise ValueError(f"a decimal number out of range: {show(text)}")
    return value


def uuid_from_text(text: str) -> UUID:
    """The UUID written as 8-4-4-4-12 hexadecimal digits, and in no other way.

    Raises:
        ValueError: the text is not of that form.
    """
    if not _UUID.fullmatch(text):
        raise ValueError(f"not a UUID: {show(text)}")
    return UUID(text)


def inst_to_text(value: datetime) -> str:
    """As Clojure prints an instant: in UTC, `2026-01-02T03:04:05.678-00:00`; microseconds where there are any.

    Raises:
        WireError: `unwritable`: the datetime has no time zone, so it is no instant.
    """
    if value.utcoffset() is None:
        raise WireError("unwritable", f"{value!r} has no time zone; give it one, for example datetime.UTC")
    try:
        utc = value.astimezone(UTC).replace(tzinfo=None)
    except OverflowError as error:
        raise WireError("unwritable", f"{value!r} lies outside the years 1 to 9999 in UTC") from error
    return utc.isoformat(timespec="microseconds" if utc.microsecond % 1000 else "milliseconds") + "-00:00"


def inst_from_text(text: str) -> datetime:
    """The instant of an RFC 3339 text, which may be cut short from the right as Clojure's reader allows.

    Digits beyond microseconds are dropped.

    Raises:
        ValueError: the text is not of that form, or no date there is.
    """
    match = _INST.fullmatch(text)
    if match is None:
        raise ValueError(f"not an instant: {show(text)}")
    year, month, day, hour, minute, second, fraction, sign, zone_hours, zone_minutes = match.groups()
    if zone_hours is None:
        zone: timezone = UTC
    else:
        offset = timedelta(hours=int(zone_hours), minutes=int(zone_minutes))
        zone = timezone(-offset if sign == "-" else offset) if offset else UTC
    return datetime(
        int(year),
        int(month or 1),
        int(day or 1),
        int(hour or 0),
        int(minute or 0),
        int(second or 0),
        int((fraction or "0")[:6].ljust(6, "0")),
        zone,
    )


_DECIMAL = re.compile(r"[-+]?[0-9]+(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?")
_INTEGER = re.compile(r"-?[0-9]+")
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_INST = re.compile(
    r"([0-9]{4})(?:-([0-9]{2})(?:-([0-9]{2})(?:T([0-9]{2})(?::([0-9]{2})(?::([0-9]{2})(?:\.([0-9]+))?)?)?)?)?)?"
    r"(?:Z|([-+])([0-9]{2}):([0-9]{2}))?"
)

_WRITERS: dict[type, Callable[[Any], Any]] = {
    float: _finite,
    Keyword: lambda value: {"$kw": str.__str__(value)},
    Symbol: lambda value: {"$sym": str.__str__(value)},
    Char: lambda value: {"$char": str.__str__(value)},
    Text: lambda value: {"$str": str.__str__(value)},
    UUID: lambda value: {"$uuid": str(value)},
    datetime: lambda value: {"$inst": inst_to_text(value)},
    Decimal: lambda value: {"$bigdec": _decimal_to_text(value)},
    Fraction: lambda value: {"$ratio": [_tag(value.numerator, 0), _tag(value.denominator, 0)]},
}


def _untag(data: Any, depth: int) -> Any:
    kind = type(data)
    if kind in _PLAIN or kind is int:
        return data
    if kind is float:
        if not isfinite(data):
            raise WireError("unreadable", f"JSON has no {data}")
        return data
    if depth >= MAX_DEPTH:
        raise _too_deep("unreadable")
    if kind is list:
        items = []
        for item in data:
            items.append(item if type(item) in _PLAIN else _untag(item, depth + 1))
        return items
    if kind is not dict:
        raise WireError("unreadable", f"a {kind_name(data)} is no JSON: {show(data, 200)}")
    if len(data) == 1:
        ((tag, argument),) = data.items()
        if tag == "$list" and type(argument) is list:
            items = []
            for item in argument:
                items.append(item if type(item) in _PLAIN else _untag(item, depth + 2))
            return tuple(items)
        if type(tag) is str and tag[:1] == "$":
            return _untag_value(tag, argument, depth)
    plain = {}
    for key, item in data.items():
        if type(key) is not str:
            raise WireError(
                "unreadable", f"a key that is no string: {show(key)}; write the map as {{'$map': [[k, v]]}}"
            )
        if key[:1] == "$":
            raise WireError("unreadable", f"the tag {show(key)} stands among other keys; a tagged map has exactly one")
        plain[key] = item if type(item) in _PLAIN else _untag(item, depth + 1)
    return plain


def _untag_value(tag: str, argument: Any, depth: int) -> Any:
    read = _READERS.get(tag)
    if read is not None:
        if type(argument) is not str:
            raise WireError("unreadable", f"a string was expected under {tag}, not {show(argument)}")
        try:
            return read(argument)
        except (ValueError, OverflowError) as error:
            raise WireError("unreadable", f"wrong value under {tag}: {error}") from error
    if tag == "$map":
        return _untag_map(argument, depth)
    if tag not in _COMPOUND:
        raise WireError("unreadable", f"unknown tag {show(tag)}; a plain map with such a key is written under $map")
    if type(argument) is not list:
        raise WireError("unreadable", f"a list was expected under {show(tag)}, not {show(argument)}")
    items = []
    for item in argument:
        items.append(item if type(item) in _PLAIN else _untag(item, depth + 2))
    if tag == "$set":
        return build_set(items)
    if tag == "$ratio":
        if len(items) == 2 and type(items[0]) is int and type(items[1]) is int and items[1] != 0:
            return Fraction(items[0], items[1])
        raise WireError("unreadable", f"two whole numbers were expected under $ratio, not {show(argument)}")
    if len(items) == 2 and type(items[0]) is str:
        return Tagged(items[0], items[1])
    raise WireError("unreadable", f"a tag and a value were expected under $tagged, not {show(argument)}")


def _untag_map(argument: Any, depth: int) -> dict[Any, Any]:
    flat = []
    for pair in argument if type(argument) is list else [None]:
        if type(pair) is not list or len(pair) != 2:
            raise WireError("unreadable", f"pairs were expected under $map, not {show(argument)}")
        flat.append(_untag(pair[0], depth + 3))
        flat.append(_untag(pair[1], depth + 3))
    return build_map(flat)


_COMPOUND = frozenset({"$list", "$set", "$ratio", "$tagged"})
CROWD = 1000
"""Elements from which on a collection is checked for hashes that collide on purpose."""


def build_map(flat: list[Any]) -> dict[Any, Any]:
    """A map of keys and values in turn; keys are made hashable.

    Raises:
        WireError: `unreadable`: two keys are equal in Python, or something cannot be a key.
    """
    keys = flat[::2]
    try:
        if len(keys) > CROWD:
            _refuse_collisions(keys)
        result = dict(zip(keys, flat[1::2]))
    except TypeError:
        keys = _frozen(keys)
        result = dict(zip(keys, flat[1::2]))
    if len(result) != len(keys):
        raise WireError("unreadable", f"two keys of a map are equal in Python: {_twice(keys)}")
    return result


def build_set(items: list[Any]) -> frozenset[Any]:
    """A set of the items; they are made hashable.

    Raises:
        WireError: `unreadable`: two items are equal in Python, or something cannot be in a set.
    """
    try:
        if len(items) > CROWD:
            _refuse_collisions(items)
        result = frozenset(items)
    except TypeError:
        items = _frozen(items)
        result = frozenset(items)
    if len(result) != len(items):
        raise WireError("unreadable", f"two elements of a set are equal in Python: {_twice(items)}")
    return result


def _frozen(values: list[Any]) -> list[Any]:
    values = [freeze(value) for value in values]
    if len(values) > CROWD:
        _refuse_collisions(values)
    return values


def _refuse_collisions(values: list[Any]) -> None:
    # Numbers hash to themselves: a sender who wants to can pick thousands that collide, and a table of them takes
    # quadratic time to build. Honest data has a hash for almost each value.
    if len({hash(value) for value in values}) * 2 < len(values):
        raise WireError("unreadable", "most of a large collection's keys have the same hash")


def _twice(values: list[Any]) -> str:
    seen: dict[Any, Any] = {}
    for value in values:
        if value in seen:
            return f"{show(seen[value])} and {show(value)}"
        seen[value] = value
    return "(none)"


def kind_name(value: Any) -> str:
    """The name of the value's class, with its module where it is no built-in."""
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _too_deep(reason: str) -> WireError:
    return WireError(reason, f"nested more than {MAX_DEPTH} levels deep")


def _bigint_from_text(text: str) -> int:
    if not _INTEGER.fullmatch(text) or len(text) > MAX_DIGITS + 1:
        raise ValueError(f"not a whole number of at most {MAX_DIGITS} digits: {show(text)}")
    return int(text)


_READERS: dict[str, Callable[[str], Any]] = {
    "$kw": Keyword,
    "$sym": Symbol,
    "$char": Char,
    "$str": Text,
    "$uuid": uuid_from_text,
    "$inst": inst_from_text,
    "$bigdec": decimal_from_text,
    "$bigint": _bigint_from_text,
}
