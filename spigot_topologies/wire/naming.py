"""Plans written in Python, as Clojure names things.

In a plan of plain strings the place tells what a string is: a tag and an option's key are keywords, the head of an
expression is a symbol, what `spigot/get` looks up is a symbol if it starts with `?` and else a keyword (`get("seat")`
in `out` reads the result's `:seat`), and so is every name that `for`, `binding` and `error` bind. Keys of maps are left
to the writer (`edn_writer.dumps_named`), which treats them alike everywhere. `Keyword` and `Symbol` stay what they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spigot_topologies.errors import WireError
from spigot_topologies.values import FrozenMap, Keyword, Symbol, Vector
from spigot_topologies.wire.names import Known, is_plain_name

__all__ = ["keyword", "named_plan"]

_GET = "spigot/get"
_QUOTE = "spigot/quote"


def keyword(text: Any) -> Any:
    """A plain string as a keyword if it can be one for every reader of EDN; anything else as it is."""
    return _keywords[text] if type(text) is str else text


_keywords = Known[str](lambda text: Keyword(text) if is_plain_name(text) else text)
_symbols = Known[str](lambda text: Symbol(text) if is_plain_name(text) else text)


def named_plan(plan: Any) -> Any:
    """The plan with keywords and symbols where Clojure needs them. What is no plan comes back as it is.

    Raises:
        WireError: `unwritable`: the plan is nested without end, or nearly.
    """
    try:
        return _node(plan)
    except RecursionError:
        raise WireError("unwritable", "the plan is nested too deeply") from None


def _node(node: Any) -> Any:
    if not isinstance(node, list | tuple) or not node:
        return node
    named: list[Any] = [keyword(node[0])]
    for index, part in enumerate(node[1:]):
        if isinstance(part, list | tuple):
            named.append(_node(part))
        elif index == 0 and isinstance(part, Mapping):
            named.append({key: _option(key, value) for key, value in part.items()})
        else:
            named.append(part)
    return tuple(named) if type(node) is tuple else named


_EXPRESSIONS = frozenset({"spigot/in", "spigot/out", "spigot/into", "spigot/commit"})


def _option(key: Any, value: Any) -> Any:
    if key == "spigot/error":
        return _name(value)
    if key in ("spigot/for", "spigot/binding") and isinstance(value, list):
        return [_expression(item) if index % 2 else _name(item) for index, item in enumerate(value)]
    return _expression(value) if key in _EXPRESSIONS else value


def _name(text: Any) -> Any:
    """The name of a place in scope: a symbol with `?`, as it should be, or a keyword."""
    if type(text) is not str:
        return text
    return _symbols[text] if text[:1] == "?" else _keywords[text]


def _expression(value: Any) -> Any:
    kind = type(value)
    if kind is tuple and value:
        head = value[0]
        symbol = _symbols[head] if type(head) is str else head
        if head == _QUOTE:
            return (symbol, *value[1:])
        if head == _GET:
            return (symbol, *map(_name, value[1:]))
        return (symbol, *map(_expression, value[1:]))
    if kind is list:
        return [_expression(item) for item in value]
    if kind is Vector:
        return Vector(map(_expression, value))
    if kind is dict or kind is FrozenMap:
        return kind({_expression(key): _expression(item) for key, item in value.items()})
    if kind is frozenset or kind is set:
        return frozenset(map(_expression, value))
    return value
