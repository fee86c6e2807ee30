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
from typing import Any, TypeAlias
from uuid import UUID

from spigot_topologies.errors import WireError, show
from spigot_topologies.values import Char, FrozenMap, Keyword, Symbol, Tagged, Text, Vector
from spigot_topologies.values.tagged import MAX_DEPTH, MAX_DIGITS, inst_to_text, kind_name
from spigot_topologies.wire.names import TOKEN_END, is_name, is_plain_name

__all__ = ["dumps", "dumps_named"]

_SPECIAL = re.compile(r'["\\\n\t\r\f\b]')
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r", "\f": "\\f", "\b": "\\b"}
_CHARS = {"\n": "newline", " ": "space", "\t": "tab", "\r": "return", "\b": "backspace", "\f": "formfeed"}
_CONSTANTS = {None: "nil", True: "true", False: "false"}
_NOT_SYMBOLS = frozenset({"nil", "true", "false"})
_BREAKS_TOKEN = re.compile(f"[{TOKEN_END}]")
_NUMERIC = re.compile(r"[-+]?[0-9]")
_MIN_LONG, _MAX_LONG = -(2**63), 2**63 - 1

_KNOWN_LIMIT = 8192


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
    parts: list[str] = []
    try:
        _write(value, parts.append, style, 0)
        return "".join(parts).encode()
    except UnicodeEncodeError:
        raise WireError("unwritable", "a string with half a surrogate pair has no form in UTF-8") from None
    except RecursionError:
        raise _too_deep() from None


def _write(value: Any, emit: Callable[[str], None], style: _Style, depth: int) -> None:
    atoms, keys = style
    kind = type(value)
    write = atoms.get(kind)
    if write is not None:
        emit(write(value))
        return
    if depth >= MAX_DEPTH:
        raise _too_deep()
    if kind is dict or kind is FrozenMap:
        before = "{"
        for key, item in value.items():
            write = keys.get(type(key))
            if write is not None:
                before += write(key)
            else:
                emit(before)
                _write(key, emit, style, depth + 1)
                before = ""
            write = atoms.get(type(item))
            if write is not None:
                emit(f"{before} {write(item)}")
            else:
                emit(before + " ")
                _write(item, emit, style, depth + 1)
            before = ", "
        emit("}" if value else "{}")
    elif kind is list or kind is tuple or kind is Vector:
        before, close = ("(", ")") if kind is tuple else ("[", "]")
        for item in value:
            write = atoms.get(type(item))
            if write is not None:
                emit(before + write(item))
            else:
                emit(before)
                _write(item, emit, style, depth + 1)
            before = " "
        emit(close if value else before + close)
    elif isinstance(value, set | frozenset):
        texts = []
        for item in value:
            parts: list[str] = []
            _write(item, parts.append, style, depth + 1)
            texts.append("".join(parts))
        emit("#{" + " ".join(sorted(texts)) + "}")  # sets have no order; one order gives equal bytes
    elif kind is Tagged:
        if not is_name(value.tag) or not value.tag[0].isalpha() or _BREAKS_TOKEN.search(value.tag):
            raise WireError("unwritable", f"not a tag: {show(value.tag)}")
        emit(f"#{value.tag} ")
        _write(value.value, emit, style, depth + 1)
    elif isinstance(value, _RARE):
        emit(next(_ATOMS[kind] for kind in _RARE if isinstance(value, kind))(value))
    else:
        _write(_plain(value), emit, style, depth)


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
    if _SPECIAL.search(value) is None:
        return f'"{value}"'
    return '"' + _SPECIAL.sub(lambda match: _ESCAPES[match[0]], value) + '"'


_keyword_texts: dict[str, str] = {}
_symbol_texts: dict[str, str] = {}
_key_texts: dict[str, str] = {}


def _remember(texts: dict[str, str], name: str, text: str) -> str:
    if len(texts) >= _KNOWN_LIMIT:
        texts.clear()
    if len(name) <= 100:
        texts[name] = text
    return text


def _keyword(value: str) -> str:
    text = _keyword_texts.get(value)
    if text is None:
        text = f":{value}"
        if not is_name(text) or _BREAKS_TOKEN.search(text):
            raise WireError("unwritable", f"Clojure has no such keyword: {show(value)}")
        _remember(_keyword_texts, value, text)
    return text


def _symbol(value: str) -> str:
    text = _symbol_texts.get(value)
    if text is None:
        text = str.__str__(value)
        if not _is_symbol(text):
            raise WireError("unwritable", f"Clojure has no such symbol: {show(value)}")
        _remember(_symbol_texts, value, text)
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
    text = _key_texts.get(value)
    if text is None:
        if not is_plain_name(value):
            return _string(value)
        text = _remember(_key_texts, value, value if value[0] == "?" else f":{value}")
    return text


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


def _uuid(value: UUID) -> str:
    digits = f"{value.int:032x}"  # half the time of str(value), which matters: ids make up most of a message
    return f'#uuid "{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"'


def _too_deep() -> WireError:
    return WireError("unwritable", f"nested more than {MAX_DEPTH} levels deep")


_ATOMS: dict[type, Callable[[Any], str]] = {
    str: _string,
    Text: _string,
    Keyword: _keyword,
    Symbol: _symbol,
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
_NAMED: _Style = ({**_ATOMS, str: _named_string}, {**_ATOMS, str: _key})
