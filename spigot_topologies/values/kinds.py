"""Keywords, symbols, characters and tagged literals."""

from __future__ import annotations

from typing import Any

from attrs import frozen

__all__ = ["Char", "Keyword", "Symbol", "Tagged", "Text"]


class Keyword(str):
    """A Clojure keyword: `Keyword("spigot/get")` is `:spigot/get`, and equals `"spigot/get"`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"Keyword({str.__repr__(self)})"


class Symbol(str):
    """A Clojure symbol: `Symbol("?seat")` is `?seat`, and equals `"?seat"`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"Symbol({str.__repr__(self)})"


class Char(str):
    """A Clojure character: `Char("a")` is `\\a`, and equals `"a"`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"Char({str.__repr__(self)})"


class Text(str):
    """A string that came from Clojure where one from Python would be taken for a name, so that it goes back a string.

    Plain strings become keywords as keys of maps, and symbols if they begin with `?`; Clojure's `{"seat" "?"}` is read
    as `{Text("seat"): Text("?")}`.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return f"Text({str.__repr__(self)})"


@frozen
class Tagged:
    """A tagged literal nobody gave a meaning to: `Tagged("my/tag", 1)` is `#my/tag 1`. Carried along unchanged."""

    tag: str
    value: Any
