"""The exact codec for state: what is decoded has the types, not only the look, of what was encoded.

Two forms, told apart by the first byte, which is also the format's version:

- `1`, plain: JSON, for values made of `dict` with `str` keys, `list`, `str`, 64-bit `int`, finite `float`, `bool` and
  `None` alone. Most state is of this kind, and orjson reads and writes it.
- `2`, exact: JSON too, but one flat array: the value in pre-order. A JSON scalar stands for itself; everything else
  begins with a marker `[code, argument]`, for containers the number of values that follow. Flat, so that no depth of
  nesting can exhaust a parser's or Python's stack.

Kept apart: tuple, list and `Vector`, set and frozenset, dict and `FrozenMap`, `Keyword`, `Symbol`, `Char`, `Text` and
`str`, int and float (also NaN, the infinities and -0.0), Decimal, Fraction, integers of any size, bytes, UUID, datetime
and date, `Tagged`; maps keep their order and may have any hashable keys.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from fractions import Fraction
from math import isfinite
from typing import Any
from uuid import UUID

import orjson

from spigot_topologies.values.frozen import FrozenMap, Vector
from spigot_topologies.values.kinds import Char, Keyword, Symbol, Tagged, Text

__all__ = ["decode", "encode"]

_PLAIN = b"\x01"
_EXACT = b"\x02"
_MAX_PLAIN_DEPTH = 100  # orjson writes at most 254 levels
_MIN_INT, _MAX_INT = -(2**63), 2**63 - 1  # orjson reads and writes more, but as unsigned or float

_ALWAYS_PLAIN = frozenset({str, bool, type(None)})


def encode(value: Any) -> bytes:
    """Bytes from which `decode` makes the same value again.

    Raises:
        TypeError: a value of a type the codec does not know is inside.
    """
    if _is_plain(value, _MAX_PLAIN_DEPTH):
        try:
            return _PLAIN + orjson.dumps(value)
        except orjson.JSONEncodeError:  # a lone surrogate, which JSON has no way to write
            pass
    return _EXACT + orjson.dumps(_flatten(value))


def decode(data: bytes) -> Any:
    """The value `encode` made these bytes from.

    Raises:
        ValueError: the bytes are not of this codec, or of a format version newer than this code.
    """
    form = data[:1]
    if form == _PLAIN:
        return orjson.loads(memoryview(data)[1:])
    if form == _EXACT:
        return _unflatten(orjson.loads(memoryview(data)[1:]))
    raise ValueError(f"state of unknown format {form!r}: written by a newer version of spigot_topologies?")


def _is_plain(value: Any, depth: int) -> bool:
    kind = type(value)
    if kind in _ALWAYS_PLAIN:
        return True
    if kind is int:
        return bool(_MIN_INT <= value <= _MAX_INT)
    if kind is float:
        return isfinite(value)
    if depth == 0:
        return False
    if kind is dict:
        for key, item in value.items():
            if type(key) is not str or not (type(item) in _ALWAYS_PLAIN or _is_plain(item, depth - 1)):
                return False
        return True
    if kind is list:
        for item in value:  # noqa: SIM110 - all() with a generator takes twice the time, and this is the hot path
            if not (type(item) in _ALWAYS_PLAIN or _is_plain(item, depth - 1)):
                return False
        return True
    return False


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


_SEQUENCES: dict[type, str] = {list: "l", tuple: "t", set: "s", frozenset: "f", Vector: "v"}
_MAPS: dict[type, str] = {dict: "m", FrozenMap: "M"}
_ATOMS: dict[type, tuple[str, Callable[[Any], str]]] = {
    Keyword: ("k", str),
    Symbol: ("y", str),
    Char: ("c", str),
    Text: ("T", str),
    UUID: ("u", lambda value: value.hex),
    datetime: ("D", datetime.isoformat),
    date: ("d", date.isoformat),
    Decimal: ("x", str),
    Fraction: ("q", str),
    bytes: ("b", lambda value: b64encode(value).decode()),
    int: ("i", str),
    float: ("n", repr),
}
_READERS: dict[str, Callable[[str], Any]] = {
    "k": Keyword,
    "y": Symbol,
    "c": Char,
    "T": Text,
    "u": UUID,
    "D": datetime.fromisoformat,
    "d": date.fromisoformat,
    "x": Decimal,
    "q": Fraction,
    "b": b64decode,
    "i": int,
    "n": float,
    "S": lambda text: b64decode(text).decode("utf-8", "surrogatepass"),
}
_COLLECTORS: dict[str, Callable[[list[Any]], Any]] = {
    "l": lambda items: items,
    "t": tuple,
    "s": set,
    "f": frozenset,
    "v": Vector,
    "M": lambda items: FrozenMap(zip(items[::2], items[1::2], strict=True)),
    "m": lambda items: dict(zip(items[::2], items[1::2], strict=True)),
}


def _flatten(value: Any) -> list[Any]:
    tokens: list[Any] = []
    emit = tokens.append
    todo = [value]
    while todo:
        value = todo.pop()
        kind = type(value)
        if kind is str:
            if _encodable(value):
                emit(value)
            else:
                emit(["S", b64encode(value.encode("utf-8", "surrogatepass")).decode()])
        elif (
            kind in _ALWAYS_PLAIN
            or (kind is int and _MIN_INT <= value <= _MAX_INT)
            or (kind is float and isfinite(value))
        ):
            emit(value)
        elif kind in _MAPS:
            emit([_MAPS[kind], 2 * len(value)])
            for key, item in reversed(value.items()):
                todo.append(item)
                todo.append(key)
        elif kind in _SEQUENCES:
            emit([_SEQUENCES[kind], len(value)])
            todo.extend(reversed(tuple(value)))
        elif kind in _ATOMS:
            code, write = _ATOMS[kind]
            emit([code, write(value)])
        elif kind is Tagged:
            emit(["g", value.tag])
            todo.append(value.value)
        else:
            raise TypeError(f"state cannot hold a {kind.__module__}.{kind.__qualname__}: {value!r:.200}")
    return tokens


def _unflatten(tokens: list[Any]) -> Any:
    # Backwards: when a marker comes, the values it announces already lie on the stack, its first one on top.
    stack: list[Any] = []
    for token in reversed(tokens):
        if type(token) is not list:
            stack.append(token)
            continue
        code, argument = token
        if code in _READERS:
            stack.append(_READERS[code](argument))
        elif code == "g":
            stack.append(Tagged(argument, stack.pop()))
        else:
            at = len(stack) - argument
            items = stack[at:]
            del stack[at:]
            items.reverse()
            stack.append(_COLLECTORS[code](items))
    (value,) = stack
    return value
