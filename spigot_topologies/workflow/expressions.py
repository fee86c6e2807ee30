"""Expressions become functions of a lookup, once per plan, so that a step does not interpret them again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

from spigot_topologies.values import FrozenMap, Vector
from spigot_topologies.values.frozen import freeze

__all__ = ["Evaluate", "Lookup", "Resolver", "compile_expression"]

Lookup = Callable[[Any], Any]
"""Gives what a key is bound to where the expression stands, or None."""

Evaluate = Callable[[Lookup], Any]

Resolver = Callable[..., Any]
"""What an expression's head does: called with the lookup and the evaluated arguments."""

_QUOTE = "spigot/quote"
_GET = "spigot/get"


def compile_expression(expression: Any, resolvers: Mapping[str, Resolver]) -> Evaluate:
    """The function that evaluates `expression`; lists, maps and sets in its value are new ones at each call."""
    if type(expression) is tuple and expression:
        return _compile_call(expression, resolvers)
    if isinstance(expression, Mapping):
        return _compile_map(expression, resolvers)
    if isinstance(expression, list):
        return _compile_list([compile_expression(item, resolvers) for item in expression])
    if isinstance(expression, Vector):
        items = _compile_list([compile_expression(item, resolvers) for item in expression])
        return lambda lookup: Vector(freeze(item) for item in items(lookup))
    if isinstance(expression, set | frozenset):
        kind = type(expression)
        elements = [compile_expression(item, resolvers) for item in expression]
        return lambda lookup: kind(freeze(evaluate(lookup)) for evaluate in elements)
    return lambda _: expression


def _compile_call(call: tuple[Any, ...], resolvers: Mapping[str, Resolver]) -> Evaluate:
    head = call[0]
    if head == _QUOTE:
        data = call[1]
        return lambda _: deepcopy(data)
    if head == _GET and isinstance(call[1], str):
        key = call[1]
        return lambda lookup: lookup(key)
    resolver = resolvers[head]
    arguments = [compile_expression(argument, resolvers) for argument in call[1:]]
    return lambda lookup: resolver(lookup, *[evaluate(lookup) for evaluate in arguments])


def _compile_list(items: list[Evaluate]) -> Evaluate:
    return lambda lookup: [evaluate(lookup) for evaluate in items]


def _compile_map(expression: Mapping[Any, Any], resolvers: Mapping[str, Resolver]) -> Evaluate:
    frozen = type(expression) is FrozenMap
    if all(isinstance(key, str) for key in expression):
        named = [(key, compile_expression(value, resolvers)) for key, value in expression.items()]
        if frozen:
            return lambda lookup: FrozenMap((key, freeze(evaluate(lookup))) for key, evaluate in named)
        return lambda lookup: {key: evaluate(lookup) for key, evaluate in named}
    pairs = [
        (compile_expression(key, resolvers), compile_expression(value, resolvers)) for key, value in expression.items()
    ]
    if frozen:
        return lambda lookup: FrozenMap((freeze(key(lookup)), freeze(value(lookup))) for key, value in pairs)
    return lambda lookup: {freeze(key(lookup)): value(lookup) for key, value in pairs}
