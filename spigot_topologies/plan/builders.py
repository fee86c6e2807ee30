"""Builders of plans. Each returns plain data, the same one would write by hand.

>>> serial(task("a", out={"?x": get("x")}), task("b"))
['spigot/serial', ['a', {'spigot/out': {'?x': ('spigot/get', 'x')}}], ['b']]
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = [
    "catch",
    "each",
    "get",
    "isolate",
    "parallel",
    "parallelize",
    "quote",
    "serial",
    "serialize",
    "task",
    "try_",
]

Node = list[Any]
Expression = tuple[Any, ...]


def _node(tag: str, options: Mapping[str, Any], *children: Any) -> Node:
    given = {f"spigot/{name}": value for name, value in options.items() if value is not None}
    return [tag, given, *children] if given else [tag, *children]


def task(tag: str, *, in_: Any = None, out: Mapping[str, Any] | None = None) -> Node:
    """A task for the handler of `tag`.

    Args:
        tag: Names the handler.
        in_: The parameters: a map, in which expressions are evaluated, or one expression that yields a map.
        out: What of the result goes into scope: symbols to expressions over the result.
    """
    return _node(tag, {"in": in_, "out": out})


def serial(*children: Any) -> Node:
    """Runs the children in order and stops at the first failure."""
    return _node("spigot/serial", {}, *children)


def parallel(*children: Any, throttle: int | None = None) -> Node:
    """Runs all children.

    Args:
        children: The nodes to run.
        throttle: Only so many unfinished children, in order, may have started; children are counted, not tasks.
    """
    return _node("spigot/parallel", {"throttle": throttle}, *children)


def serialize(variable: str, items: Any, *, do: Any, into: Mapping[str, Any] | None = None) -> Node:
    """Runs a copy of `do` for each item, in order; arguments as for `parallelize`."""
    return _node("spigot/serialize", {"for": [variable, items], "into": into}, do)


def parallelize(
    variable: str, items: Any, *, do: Any, into: Mapping[str, Any] | None = None, throttle: int | None = None
) -> Node:
    """Runs a copy of `do` for each item, all at once.

    Args:
        variable: The symbol bound to the item inside `do`.
        items: A list (or a string: its characters), or an expression that yields one.
        do: The node to copy. What it writes stays in the item's own scope.
        into: What is gathered when all have succeeded: symbols to reducers, as `{"?seats": each(get("?seat"))}`.
        throttle: Only so many unfinished copies may have started.
    """
    return _node("spigot/parallelize", {"for": [variable, items], "into": into, "throttle": throttle}, do)


def try_(body: Any, handler: Any) -> Node:
    """Runs `handler` (a `catch`, or any node) when `body` fails, and succeeds when either does."""
    return _node("spigot/try", {}, body, handler)


def catch(*args: Any) -> Node:
    """The handler of a `try_`: `catch(node)`, or `catch("?error", node)` to bind the error map inside `node`."""
    if len(args) == 1:
        return _node("spigot/catch", {}, args[0])
    if len(args) == 2:
        return _node("spigot/catch", {"error": args[0]}, args[1])
    raise TypeError(f"catch takes a node, or a symbol and a node; got {len(args)} arguments")


def isolate(child: Any, *, binding: Mapping[str, Any] | None = None, commit: Mapping[str, Any] | None = None) -> Node:
    """Runs `child` in a scope of its own.

    Args:
        child: The node to run.
        binding: What it sees beside the scopes around it: symbols to expressions, evaluated once, at the start.
        commit: What reaches the scope around it when it has succeeded: symbols to expressions.
    """
    flat = None if binding is None else [part for pair in binding.items() for part in pair]
    return _node("spigot/isolate", {"binding": flat, "commit": commit}, child)


def get(key: Any) -> Expression:
    """The expression that reads `key`; None where nothing binds it."""
    return ("spigot/get", key)


def each(expression: Any) -> Expression:
    """The reducer that evaluates `expression` once per item and gives the list."""
    return ("spigot/each", expression)


def quote(data: Any) -> Expression:
    """The expression that yields `data` as it stands: also a list that looks like an expression, or a tuple."""
    return ("spigot/quote", data)
