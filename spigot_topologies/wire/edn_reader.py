r"""Reads EDN, at the speed pure Python allows.

One regular expression cuts the text into tokens; a loop without recursion puts them together, so depth is a limit and
not a danger. Keywords, symbols and UUIDs come from a cache keyed by their text. Positions are worked out only when
there is an error to report.

| EDN | Python |
|---|---|
| `nil` `true` `false`, strings, integers (also `N`), floats | `None`, `bool`, `str`, `int`, `float` |
| strings that would be taken for names on the way back | `Text` |
| decimals `1.50M`, ratios `1/3` | `Decimal`, `Fraction` (an `int` where it is whole) |
| `:keyword`, `symbol`, `\c` | `Keyword`, `Symbol`, `Char` |
| vector, list, map, set | `list`, `tuple`, `dict`, `frozenset` |
| `#uuid`, `#inst`, other tags | `UUID`, `datetime`, `Tagged` |

Collections inside sets and as keys come hashable: `Vector` for vectors, `FrozenMap` for maps (`values.frozen`). What is
read follows Clojure's own reader, which is laxer than the specification: hexadecimal, octal and radix numbers, symbols
with a colon in the namespace, `#:ns{...}`. Refused: two keys or elements that are equal in Python (`1` and `1.0`, `"a"`
and `:a`), metadata, more than one value, more than `MAX_DEPTH` levels.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from fractions import Fraction
from operator import length_hint
from typing import Any

from attrs import frozen

from spigot_topologies.errors import WireError, show
from spigot_topologies.values import Char, Keyword, Symbol, Tagged, Text
from spigot_topologies.values.tagged import (
    CROWD,
    MAX_DEPTH,
    MAX_DIGITS,
    build_map,
    build_set,
    decimal_from_text,
    inst_from_text,
    uuid_from_text,
)
from spigot_topologies.wire.names import SPACE, TOKEN_END, is_name, is_plain_name

__all__ = ["loads"]

# Every character but SPACE begins some token, so that nothing is skipped but space. All quantifiers are possessive:
# no input makes the expression backtrack.
_TOKEN = re.compile(
    "|".join(
        [
            rf"[^{TOKEN_END}#][^{TOKEN_END}]*+",  # keyword, symbol, number
            r"[\[\](){}]",
            rf'#uuid[{SPACE}]*+"[^"\\]*+"',
            r'"[^"\\]*+(?:\\.[^"\\]*+)*+"',
            rf'#inst[{SPACE}]*+"[^"\\]*+"',
            r"#[{_]",
            rf"#:[^{TOKEN_END}]*+[{SPACE}]*+\{{",
            rf"##[^{TOKEN_END}]*+",
            rf"#[^\W\d_][^{TOKEN_END}]*+",  # tag
            r";[^\n\r]*+",
            rf"\\.[^{TOKEN_END}]*+",  # character
            r'".*+',  # a string without an end takes all the rest
            rf"[^{SPACE}]",
        ]
    ),
    re.DOTALL,
)

# As Clojure's reader has it; possible prefixes are told apart by their group.
_INTEGER = re.compile(r"([-+]?)(?:(0)|([1-9][0-9]*)|0[xX]([0-9A-Fa-f]+)|0([0-7]+)|([1-9][0-9]?)[rR]([0-9A-Za-z]+))N?")
_RATIO = re.compile(r"([-+]?[0-9]+)/([0-9]+)")
_FLOAT = re.compile(r"[-+]?[0-9]+(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?(M?)")
_ESCAPE = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|([0-7]{1,3})|(.))", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "\\": "\\", "b": "\b", "f": "\f"}
_SURROGATE = re.compile("[\ud800-\udfff]")
_CHARS = {
    "newline": "\n",
    "space": " ",
    "tab": "\t",
    "return": "\r",
    "backspace": "\b",
    "formfeed": "\f",
}
_STRING = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_HEX = re.compile(r"[0-9A-Fa-f]{4}")
_OCTAL = re.compile(r"[0-7]{1,3}")
_NOT_BRACES = frozenset({"[", "(", ""})
_SPACES = "".join(map(chr, [*range(9, 14), *range(0x1C, 0x21), ord(","), 0x1680, *range(0x2000, 0x2007)]))
_SPACES += "".join(map(chr, [*range(0x2008, 0x200B), 0x2028, 0x2029, 0x205F, 0x3000]))
_SYMBOLIC = {"##NaN": math.nan, "##Inf": math.inf, "##-Inf": -math.inf}

_OPENERS = frozenset({"[", "(", "{", "#{"})
_CLOSERS = frozenset({"]", ")", "}"})
_CONSTANTS: dict[str, Any] = {"nil": None, "true": True, "false": False}
_MISSING = object()


class _Cache(dict[str, Any]):
    """Values by token; emptied when full, since the same few hundred names come again at once."""

    LIMIT = 8192
    LONGEST = 100  # characters of a token: a sender of long names must not fill the memory

    def add(self, token: str, value: Any) -> None:
        if len(token) <= self.LONGEST:
            if len(self) >= self.LIMIT:
                self.clear()
                self.update(_CONSTANTS)
            self[token] = value


_known = _Cache(_CONSTANTS)


@frozen(eq=False)
class _Prefix:
    """Stands before the value it belongs to until the collection is closed: a tag, or `#_` as None."""

    tag: str | None


class _FaultError(Exception):
    """What is wrong with the token at hand, or with the end; the position is added where the text is at hand."""

    def __init__(self, detail: str, *, at_end: bool = False) -> None:
        super().__init__(detail)
        self.at_end = at_end


def loads(data: bytes | str) -> Any:
    """The one value in an EDN text.

    Raises:
        WireError: `unreadable`, with the position in characters; nothing else, whatever the bytes.
    """
    try:
        text = data if isinstance(data, str) else str(data, "utf-8")
    except UnicodeDecodeError as error:
        raise WireError("unreadable", f"not UTF-8 at byte {error.start}") from error
    tokens = _TOKEN.findall(text)
    rest = iter(tokens)
    try:
        return _assemble(rest)
    except _FaultError as fault:
        detail, at_end = str(fault), fault.at_end
    except WireError as error:
        detail, at_end = error.detail, False
    raise WireError("unreadable", detail, len(text) if at_end else _position(text, len(tokens) - length_hint(rest) - 1))


def _position(text: str, index: int) -> int:
    for at, match in enumerate(_TOKEN.finditer(text)):
        if at == index:
            return match.start()
    return len(text)


def _assemble(tokens: Any) -> Any:
    known = _known.get
    stack: list[tuple[str, list[Any], int]] = []
    opener = ""
    items: list[Any] = []
    append = items.append
    depth = 0
    prefixed = strings = False
    for token in tokens:
        value = known(token, _MISSING)
        if value is not _MISSING:
            append(value)
        elif token in _OPENERS or token[:2] == "#:":
            stack.append((opener, items, depth))
            depth += 1
            if prefixed:
                depth += _tags_at_end(items)
            if depth > MAX_DEPTH:
                raise _too_deep()
            opener = token
            items = []
            append = items.append
        elif token in _CLOSERS:
            if prefixed:
                items = _apply_prefixes(items, depth)
            if opener == "[" and token == "]":
                value = items
            elif opener == "(" and token == ")":
                value = tuple(items)
            elif token != "}" or opener in _NOT_BRACES:
                raise _FaultError(f"{token!r} closes {opener!r}" if opener else f"{token!r} closes nothing")
            elif opener == "#{":
                value = build_set(items)
            else:
                value = _build_map(opener, items, strings)
            opener, items, depth = stack.pop()
            append = items.append
            append(value)
        elif token[0] != ";":
            value = _READERS.get(token[0], _read_name)(token)
            append(value)
            if type(value) is _Prefix:
                prefixed = True
            elif type(value) is str:
                strings = True
    if stack:
        raise _FaultError(f"{opener!r} is never closed", at_end=True)
    if prefixed:
        items = _apply_prefixes(items, 0)
    if len(items) != 1:
        raise _FaultError("more than one value" if items else "no value", at_end=not items)
    return items[0]


def _build_map(opener: str, items: list[Any], strings: bool) -> Any:
    if len(items) % 2:
        raise _FaultError("a map with a key that has no value")
    keys = items[::2]
    if opener != "{":
        items[::2] = keys = _qualify(opener, keys)
    if strings and str in map(type, keys):
        items[::2] = keys = [Text(key) if type(key) is str and is_plain_name(key) else key for key in keys]
    if len(keys) <= CROWD:
        try:
            value = dict(zip(keys, items[1::2]))
        except TypeError:
            return build_map(items)
        if len(value) == len(keys):
            return value
    return build_map(items)


def _qualify(opener: str, keys: list[Any]) -> list[Any]:
    """The keys of a map `#:ns{...}`: `:k` is `:ns/k`, and `:_/k` is `:k`."""
    namespace = opener[2:-1].rstrip(_SPACES)
    if not is_name(namespace) or namespace[0] == ":" or "/" in namespace:
        raise _FaultError(f"{show(opener)}: a map's namespace must be a simple symbol")
    qualified = []
    for key in keys:
        kind = type(key)
        if kind is Keyword or kind is Symbol:
            if key[:2] == "_/":
                key = kind(key[2:])
            elif "/" not in key or key == "/":
                key = kind(f"{namespace}/{key}")
        qualified.append(key)
    return qualified


def _tags_at_end(items: list[Any]) -> int:
    """How many tags wait for the next value: they are levels of nesting too."""
    count = 0
    for item in reversed(items):
        if type(item) is not _Prefix:
            break
        count += item.tag is not None
    return count


def _apply_prefixes(items: list[Any], depth: int) -> list[Any]:
    # Backwards: when a prefix comes, the value it stands before is the last of the results.
    results: list[Any] = []
    tags = 0  # of the last result
    for item in reversed(items):
        if type(item) is not _Prefix:
            results.append(item)
            tags = 0
        elif not results:
            raise _FaultError("nothing follows #_" if item.tag is None else f"nothing follows #{item.tag}")
        elif item.tag is None:
            results.pop()
            tags = 0
        else:
            tags += 1
            if depth + tags > MAX_DEPTH:
                raise _too_deep()
            results.append(_read_tagged(item.tag, results.pop()))
    results.reverse()
    return results


def _too_deep() -> _FaultError:
    return _FaultError(f"nested more than {MAX_DEPTH} levels deep")


def _read_tagged(tag: str, value: Any) -> Any:
    if tag not in _TAGS:
        return Tagged(tag, value)
    if type(value) is not str:
        raise _FaultError(f"#{tag} stands before {show(value)}, not before a string")
    try:
        return _TAGS[tag](value)
    except (ValueError, OverflowError) as error:
        raise _FaultError(str(error)) from None


_TAGS: dict[str, Callable[[str], Any]] = {"uuid": uuid_from_text, "inst": inst_from_text}


def _read_name(token: str) -> Keyword | Symbol:
    if not is_name(token):
        raise _FaultError(f"not a symbol, keyword or number: {show(token)}")
    name = Keyword(token[1:]) if token[0] == ":" else Symbol(token)
    _known.add(token, name)
    return name


def _read_string(token: str) -> str:
    if len(token) < 2 or token[-1] != '"':
        raise _FaultError("a string is never closed")
    if "\\" not in token:
        text = token[1:-1]
        return Text(text) if text[:1] == "?" and is_plain_name(text) else text
    if not _STRING.fullmatch(token):
        raise _FaultError("a string is never closed")
    text = _ESCAPE.sub(_unescape, token[1:-1])
    if _SURROGATE.search(text):  # Java's text is UTF-16: two escapes make one character
        try:
            text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
        except UnicodeDecodeError:
            raise _FaultError("a string with half a surrogate pair") from None
    return text


def _unescape(match: re.Match[str]) -> str:
    code, octal, letter = match.groups()
    if code is not None:
        return chr(int(code, 16))
    if octal is not None:
        if int(octal, 8) > 0o377:
            raise _FaultError(f"octal escape beyond \\377: \\{octal}")
        return chr(int(octal, 8))
    if letter not in _ESCAPES:
        raise _FaultError(f"unknown escape in a string: \\{letter}")
    return _ESCAPES[letter]


def _read_char(token: str) -> Char:
    text = token[1:]
    if len(text) > 1:
        if text in _CHARS:
            text = _CHARS[text]
        elif text[0] == "u" and _HEX.fullmatch(text, 1):
            text = chr(int(text[1:], 16))
        elif text[0] == "o" and _OCTAL.fullmatch(text, 1) and int(text[1:], 8) <= 0o377:
            text = chr(int(text[1:], 8))
    if len(text) != 1 or text > "\uffff" or "\ud800" <= text <= "\udfff":
        raise _FaultError(f"not a character: {show(token)}")
    return Char(text)


def _read_hash(token: str) -> Any:
    if token == "#_":
        return _Prefix(None)
    if token[:7] == '#uuid "' and token[-1] == '"':  # as it is always written
        try:
            value = uuid_from_text(token[7:-1])
        except ValueError as error:
            raise _FaultError(str(error)) from None
        _known.add(token, value)
        return value
    if token[-1] == '"':
        return _read_tagged(token[1:5], token[token.index('"') + 1 : -1])
    if token[:2] == "##":
        if token not in _SYMBOLIC:
            raise _FaultError(f"not a symbolic value: {show(token)}")
        return _SYMBOLIC[token]
    if len(token) == 1:
        raise _FaultError("'#' before something that is neither a tag, a set nor #_")
    if not is_name(token[1:]):
        raise _FaultError(f"not a tag: {show(token)}")
    return _Prefix(token[1:])


def _read_signed(token: str) -> Any:
    return _read_number(token) if "0" <= token[1:2] <= "9" else _read_name(token)


def _read_number(token: str) -> Any:
    if len(token) < 10 and token[0] != "0" and token.isdecimal() and token.isascii():
        return int(token)
    if len(token) > (MAX_DIGITS if "r" not in token.lower() and "x" not in token.lower() else MAX_DIGITS // 2):
        raise _FaultError(f"a number of more than {MAX_DIGITS} digits")
    if match := _INTEGER.fullmatch(token):
        sign, zero, decimal, hexadecimal, octal, base, digits = match.groups()
        if decimal is not None:
            number = int(decimal)
        elif zero is not None:
            number = 0
        elif hexadecimal is not None:
            number = int(hexadecimal, 16)
        elif octal is not None:
            number = int(octal, 8)
        else:
            number = _read_radix(digits, int(base), token)
        return -number if sign == "-" else number
    if (match := _FLOAT.fullmatch(token)) and not token.lstrip("+-").isdigit():  # 08 is nothing, as in Clojure
        try:
            return decimal_from_text(token[:-1]) if match[1] else float(token)
        except ValueError as error:
            raise _FaultError(str(error)) from None
    if match := _RATIO.fullmatch(token):
        if int(match[2]) == 0:
            raise _FaultError(f"a ratio with denominator 0: {show(token)}")
        ratio = Fraction(int(match[1]), int(match[2]))
        return ratio.numerator if ratio.denominator == 1 else ratio
    raise _FaultError(f"not a number: {show(token)}")


def _read_radix(digits: str, base: int, token: str) -> int:
    try:
        return int(digits, base)
    except ValueError:
        raise _FaultError(f"not a number: {show(token)}") from None


def _refuse(token: str) -> Any:
    if token == "^":
        raise _FaultError("metadata (^) has no place in a message")
    raise _FaultError(f"unexpected {show(token)}")


_READERS: dict[str, Callable[[str], Any]] = {
    **dict.fromkeys("0123456789", _read_number),
    **dict.fromkeys("+-", _read_signed),
    '"': _read_string,
    "\\": _read_char,
    "#": _read_hash,
    "^": _refuse,
}
