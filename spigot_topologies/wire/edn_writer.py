"""Prints values as Clojure's `pr-str` does.

`dumps` is exact: a plain string stays a string. `dumps_named` writes what Python code made for Clojure to read, where
plain strings also name things: a string that starts with `?` and is a symbol is written as one, and a string that is a
key of a map as a keyword, if Clojure could read it as one (`"seat"` is, `"New York"` and `"2013-02-08"` are not).
`Keyword`, `Symbol`, `Char` and `Text` are written as what they are in both.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from json.encoder import encode_basestring
from typing import Any, TypeAlias
from uuid import UUID

from spigot_topologies.errors import WireError, show
from spigot_topologies.values import Char, FrozenMap, Keyword, Symbol, Tagged, Text, Vector
from spigot_topologies.values.tagged import MAX_DEPTH, MAX_DIGITS, inst_to_text, kind_name
from spigot_topologies.wire.names import TOKEN_END, Known, is_name, is_plain_name

__all__ = ["dumps", "dumps_named"]

_SPECIAL = re.compile(r'["\\\n\t\r\f\b]')
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r", "\f": "\\f", "\b": "\\b"}
_CHARS = {"\n": "newline", " ": "space", "\t": "tab", "\r": "return", "\b": "backspace", "\f": "formfeed"}
_CONSTANTS = {None: "nil", True: "true", False: "false"}
_NOT_SYMBOLS = frozenset({"nil", "true", "false"})
_BREAKS_TOKEN = re.compile(f"[{TOKEN_END}]")
_NUMERIC = re.compile(r"[-+]?[0-9]")
_MIN_LONG, _MAX_LONG = -(2**63), 2**63 - 1


def dumps(value: Any) -> bytes:
    """The value as EDN; reading it again gives an equal value.

    Raises:
        WireError: `unwritable`: something inside has no form in EDN, or it is nested more than `MAX_DEPTH` deep.
    """
    return _dumps(value, _EXACT)


def dumps_named(value: Any) -> bytes:
    """The value as EDN, with plain strings that name something written as symbols and keywords (see the module).

    Raises:
        WireError: `unwritable`, as for `dumps`.
    """
    return _dumps(value, _NAMED)


def _dumps(value: Any, style: _Style) -> bytes:
    try:
        return _text(value, style, 0).encode()
    except UnicodeEncodeError:
        raise WireError("unwritable", "a string with half a surrogate pair has no form in UTF-8") from None
    except RecursionError:
        raise _too_deep() from None


def _text(value: Any, style: _Style, depth: int) -> str:
    atoms, keys = style
    kind = type(value)
    write = atoms.get(kind)
    if write is not None:
        return write(value)
    if depth >= MAX_DEPTH:
        raise _too_deep()
    depth += 1
    parts: list[str] = []
    if kind is dict or kind is FrozenMap:
        for key, item in value.items():
            write = keys.get(type(key))
            name = write(key) if write is not None else _text(key, style, depth)
            write = atoms.get(type(item))
            parts.append(f"{name} {write(item) if write is not None else _text(item, style, depth)}")
        return "{" + ", ".join(parts) + "}"
    if kind is list or kind is tuple or kind is Vector:
        for item in value:
            write = atoms.get(type(item))
            parts.append(write(item) if write is not None else _text(item, style, depth))
        return f"({' '.join(parts)})" if kind is tuple else f"[{' '.join(parts)}]"
    if isinstance(value, set | frozenset):
        for item in value:
            parts.append(_text(item, style, depth))  # a comprehension is a level of the stack more
        return "#{" + " ".join(sorted(parts)) + "}"  # sets have no order; one order gives equal bytes
    if kind is Tagged:
        if not is_name(value.tag) or not value.tag[0].isalpha() or _BREAKS_TOKEN.search(value.tag):
            raise WireError("unwritable", f"not a tag: {show(value.tag)}")
        return f"#{value.tag} {_text(value.value, style, depth)}"
    if isinstance(value, _RARE):
        return next(_ATOMS[kind] for kind in _RARE if isinstance(value, kind))(value)
    return _text(_plain(value), style, depth - 1)


def _plain(value: Any) -> Any:
    """A subclass's value as the plain kind: an enum of strings is a string, a namedtuple a tuple."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, list):
        return list(value)
    if isinstance(value, tuple):
        return tuple(value)
    raise WireError("unwritable", f"a {kind_name(value)} has no form in a message: {show(value, 200)}")


def _string(value: str) -> str:
    text = encode_basestring(value)
    if "\\u" not in text:  # JSON's and Clojure's way are the same, but for the other control characters
        return text
    return '"' + _SPECIAL.sub(lambda match: _ESCAPES[match[0]], value) + '"'


def _keyword(value: str) -> str:
    text = f":{value}"
    if not is_name(text) or _BREAKS_TOKEN.search(text):
        raise WireError("unwritable", f"Clojure has no such keyword: {show(value)}")
    return text


def _symbol(value: str) -> str:
    text = str.__str__(value)
    if not _is_symbol(text):
        raise WireError("unwritable", f"Clojure has no such symbol: {show(value)}")
    return text


def _is_symbol(text: str) -> bool:
    return (
        is_name(text)
        and text[0] not in ":#"
        and text not in _NOT_SYMBOLS
        and not _NUMERIC.match(text)
        and not _BREAKS_TOKEN.search(text)
    )


def _named_string(value: str) -> str:
    return value if value[:1] == "?" and is_plain_name(value) else _string(value)


def _key(value: str) -> str:
    if not is_plain_name(value):
        return _string(value)
    return value if value[0] == "?" else f":{value}"


def _char(value: str) -> str:
    if len(value) != 1 or value > "\uffff":
        raise WireError("unwritable", f"Clojure has no such character: {show(value)}")
    return "\\" + _CHARS.get(value, str.__str__(value))


def _integer(value: int) -> str:
    if _MIN_LONG <= value <= _MAX_LONG:
        return str(value)
    try:
        text = f"{value}N"
    except ValueError:
        text = ""
    if not text or len(text) > MAX_DIGITS:
        raise WireError("unwritable", f"a whole number of more than {MAX_DIGITS} digits")
    return text


def _float(value: float) -> str:
    """As Java's `Double.toString`: plain between 0.001 and 10,000,000, else one digit, a fraction and an exponent."""
    if not math.isfinite(value):
        return "##NaN" if value != value else "##Inf" if value > 0 else "##-Inf"
    size = abs(value)
    text = repr(value)
    if size == 0 or 1e-3 <= size < 1e7:
        return text
    mantissa, _, exponent = f"{Decimal(text):e}".partition("e")
    if "." in mantissa:
        mantissa = mantissa.rstrip("0")
        if mantissa[-1] == ".":
            mantissa += "0"
    else:
        mantissa += ".0"
    return f"{mantissa}E{int(exponent)}"


def _decimal(value: Decimal) -> str:
    text = str(value)
    if not value.is_finite() or len(text) >= MAX_DIGITS:
        raise WireError("unwritable", f"the decimal {text:.80} has no form in a message")
    return f"{text}M"


def _ratio(value: Fraction) -> str:
    if value.denominator == 1:
        return _integer(value.numerator)
    text = _integer(value.numerator).rstrip("N") + "/" + _integer(value.denominator).rstrip("N")
    if len(text) > MAX_DIGITS:
        raise WireError("unwritable", f"a ratio of more than {MAX_DIGITS} digits")
    return text


_latest_id: tuple[UUID | None, str] = (None, "")


def _uuid(value: UUID) -> str:
    """Ids make up most of a message, and a task's message has its id several times, one after the other."""
    global _latest_id
    latest, text = _latest_id
    if value is latest:
        return text
    digits = value.bytes.hex()  # with what follows half the time of str(value)
    text = f'#uuid "{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"'
    _latest_id = (value, text)
    return text


def _too_deep() -> WireError:
    return WireError("unwritable", f"nested more than {MAX_DEPTH} levels deep")


_ATOMS: dict[type, Callable[[Any], str]] = {
    str: _string,
    Text: _string,
    Keyword: Known(_keyword).__getitem__,
    Symbol: Known(_symbol).__getitem__,
    int: _integer,
    bool: _CONSTANTS.__getitem__,
    type(None): _CONSTANTS.__getitem__,
    float: _float,
    UUID: _uuid,
    datetime: lambda value: f'#inst "{inst_to_text(value)}"',
    Decimal: _decimal,
    Fraction: _ratio,
    Char: _char,
}
_RARE = (UUID, datetime, Decimal, Fraction)  # subclasses of these, a pandas Timestamp for example
_Style: TypeAlias = tuple[dict[type, Callable[[Any], str]], dict[type, Callable[[Any], str]]]
"""How atoms are written, and how they are written as keys of maps."""

_EXACT: _Style = (_ATOMS, _ATOMS)
_NAMED: _Style = ({**_ATOMS, str: _named_string}, {**_ATOMS, str: Known(_key).__getitem__})
