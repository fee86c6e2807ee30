"""What EDN takes for the name of a symbol or keyword."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

__all__ = ["SPACE", "TOKEN_END", "Known", "is_name", "is_plain_name"]

V = TypeVar("V")

SPACE = r"\t-\r\x1c-\x1f ,\u1680\u2000-\u2006\u2008-\u200a\u2028\u2029\u205f\u3000"
"""What separates tokens, inside `[]` of a regular expression: Java's white space, and the comma."""

TOKEN_END = SPACE + r'"();\[\]{}\\^'
"""What ends a symbol, keyword, number or character."""

_NAME = re.compile(r":?(?:[^0-9/].*/)?(?:/|[^0-9/][^/]*)", re.DOTALL)

# What EDN's specification allows: less than Clojure's reader takes, so that any reader takes it.
_PART = r"(?:[^\W\d]|[*!?$%&=<>]|[-+.](?![0-9]))[\w*!?$%&=<>.+#'-]*"
_PLAIN_NAME = re.compile(rf"{_PART}(?:/{_PART})?")
_NOT_NAMES = frozenset({"nil", "true", "false"})


def is_name(text: str) -> bool:
    """Whether Clojure's reader takes the token for a symbol, or with a colon before it for a keyword."""
    if not _NAME.fullmatch(text):
        return False
    namespace, _, name = text.rpartition("/")
    return not (name[-1:] == ":" or namespace[-1:] == ":" or "::" in text[1:] or text[:2] == "::")


def is_plain_name(text: str) -> bool:
    """Whether the text may stand as a keyword or symbol for every reader of EDN."""
    return _PLAIN_NAME.fullmatch(text) is not None and text not in _NOT_NAMES


class Known(dict[str, V]):
    """What was made of names, which are few and come again and again: a look-up makes it once.

    Args:
        make: Called with a name that is not known; what it raises, the look-up raises.
    """

    LIMIT = 8192
    LONGEST = 100

    def __init__(self, make: Callable[[str], V]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, name: str) -> V:
        made = self._make(name)
        if len(name) <= self.LONGEST:
            if len(self) >= self.LIMIT:
                self.clear()
            self[name] = made
        return made
