"""Finds every fault of a plan before it runs, each with the path of its node."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any, Literal

from attrs import frozen

from spigot_topologies.plan.vocabulary import BUILT_IN, MAX_DEPTH, Arity, Shape, Vocabulary

__all__ = ["Fault", "check", "split"]

_TASK = Shape(Arity(0, 0), frozenset({"in", "out"}))
_OPTIONS = frozenset({"in", "out", "for", "into", "throttle", "error", "binding", "commit"})
_IGNORED = frozenset({"in", "out", "throttle"})  # the original ignores these where they have no meaning


@frozen
class Fault:
    """One thing wrong with a plan.

    Attributes:
        path: The node, and the place in its options: `r.0.in.x`.
        message: What is wrong and what to write instead.
        severity: An `error` makes `create` refuse the plan, a `warning` does not.
    """

    path: str
    message: str
    severity: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.severity == "error" else f"{self.path}: warning: {self.message}"


def split(node: Any) -> tuple[str, Mapping[Any, Any], list[Any]]:
    """The tag, the options and the children of a node that was checked."""
    if len(node) > 1 and isinstance(node[1], Mapping):
        return node[0], node[1], list(node[2:])
    return node[0], {}, list(node[1:])


def check(plan: Any, vocabulary: Vocabulary = BUILT_IN) -> list[Fault]:
    """All faults of `plan`, in tree order; none of severity `error` means that `create` takes it.

    Args:
        plan: The plan, as nested lists.
        vocabulary: The directives and heads that exist; a registry's is `registry.vocabulary`.
    """
    faults: list[Fault] = []
    checker = _Expressions(vocabulary)
    todo: list[tuple[Any, str, int]] = [(plan, "r", 1)]
    while todo:
        node, path, depth = todo.pop()
        if depth > MAX_DEPTH:
            hint = "is it part of itself? Else let a task start a workflow of its own for what is below"
            faults.append(Fault(path, f"nested more than {MAX_DEPTH} nodes deep; {hint}"))
            continue
        broken = _not_a_node(node)
        if broken is not None:
            faults.append(Fault(path, broken))
            continue
        tag, options, children = split(node)
        shape = vocabulary.directives.get(tag)
        if shape is None and not children:
            faults.extend(_check_task_tag(path, tag, vocabulary))
        faults.extend(_check_children(path, tag, shape, len(children), vocabulary))
        faults.extend(_check_options(path, tag, shape or _TASK, options, checker, is_task=shape is None))
        if shape is not None:
            todo.extend((child, f"{path}.{index}", depth + 1) for index, child in reversed([*enumerate(children)]))
    return faults


def _not_a_node(node: Any) -> str | None:
    if not isinstance(node, list | tuple):
        return f"a node is a list like [tag, options, child, ...], not {_show(node)}"
    if not node:
        return "a node needs a tag; this list is empty"
    if not isinstance(node[0], str) or not node[0]:
        hint = "; are these several nodes? Write serial(*nodes)" if isinstance(node[0], list | tuple) else ""
        return f"a node begins with its tag, a string or keyword, not {_show(node[0])}{hint}"
    return None


def _check_task_tag(path: str, tag: str, vocabulary: Vocabulary) -> Iterator[Fault]:
    if tag.startswith("spigot/"):
        yield Fault(
            path, f"{tag} is no directive, so it is a task{_did_you_mean(tag, vocabulary.directives)}", "warning"
        )


def _check_children(path: str, tag: str, shape: Shape | None, count: int, vocabulary: Vocabulary) -> Iterator[Fault]:
    if shape is None:
        if count:
            known = "a task has no children, and no directive has this tag"
            hint = _did_you_mean(tag, vocabulary.directives)
            yield Fault(path, f"{tag} has {count} child{'ren' if count > 1 else ''}, but {known}{hint}")
    elif not shape.children.allows(count):
        yield Fault(path, f"{tag} takes {shape.children} child{'' if shape.children.most == 1 else 'ren'}, not {count}")


def _check_options(
    path: str, tag: str, shape: Shape, options: Mapping[Any, Any], checker: _Expressions, *, is_task: bool
) -> Iterator[Fault]:
    given = set()
    for key, value in options.items():
        if not isinstance(key, str) or not key.startswith("spigot/"):
            if key in _OPTIONS:
                yield Fault(path, f"option {key!r} has no effect; did you mean 'spigot/{key}'?", "warning")
            continue
        name = key.removeprefix("spigot/")
        if name in shape.options:
            if value is None:
                continue
            given.add(name)
            rule = _RULES.get(name)
            if rule is not None:
                yield from rule(value, f"{path}.{name}", checker)
        elif name in _IGNORED and not is_task:
            yield Fault(path, f"{tag} ignores {key}", "warning")
        elif name in _OPTIONS:
            yield Fault(path, f"{tag} takes no {key}")
        else:
            hint = _did_you_mean(key, [f"spigot/{option}" for option in sorted(shape.options)])
            yield Fault(path, f"{key} is reserved: options that begin with spigot/ are the engine's own{hint}")
    for name in sorted((shape.required | (shape.options & {"for"})) - given):
        yield Fault(path, f"{tag} needs the option spigot/{name}")


def _check_in(value: Any, path: str, checker: _Expressions) -> Iterator[Fault]:
    if isinstance(value, Mapping) or (type(value) is tuple and value):
        yield from checker.expression(value, path)
    else:
        lost = checker.lost_tuple(value)
        yield Fault(path, lost or f"the parameters are a map or one expression, not {_show(value)}")


def _check_symbols(value: Any, path: str, checker: _Expressions) -> Iterator[Fault]:
    if not isinstance(value, Mapping):
        yield Fault(path, f"a map of symbols to expressions, not {_show(value)}")
        return
    for symbol, expression in value.items():
        yield from _check_symbol(symbol, path)
        yield from checker.expression(expression, f"{path}.{symbol}")


def _check_into(value: Any, path: str, checker: _Expressions) -> Iterator[Fault]:
    if not isinstance(value, Mapping):
        yield Fault(path, f"a map of symbols to reducers, not {_show(value)}")
        return
    for symbol, reducer in value.items():
        yield from _check_symbol(symbol, path)
        yield from checker.reducer(reducer, f"{path}.{symbol}")


def _check_for(value: Any, path: str, checker: _Expressions) -> Iterator[Fault]:
    if not isinstance(value, list | tuple) or len(value) != 2:
        yield Fault(path, f"a pair [symbol, expression], not {_show(value)}")
        return
    yield from _check_symbol(value[0], path)
    items = value[1]
    yield from checker.expression(items, f"{path}.{value[0]}")
    if isinstance(items, Mapping | int | float):
        hint = "a list of items, or an expression that yields one"
        yield Fault(f"{path}.{value[0]}", f"this loop will fail: it needs {hint}, not {_show(items)}", "warning")


def _check_binding(value: Any, path: str, checker: _Expressions) -> Iterator[Fault]:
    if not isinstance(value, list | tuple):
        yield Fault(path, f"a flat list [symbol, expression, symbol, expression, ...], not {_show(value)}")
        return
    if len(value) % 2:
        yield Fault(path, f"symbols and expressions by turns: {len(value)} is an odd number of elements")
        return
    for symbol, expression in zip(value[::2], value[1::2], strict=True):
        yield from _check_symbol(symbol, path)
        yield from checker.expression(expression, f"{path}.{symbol}")


def _check_throttle(value: Any, path: str, _: _Expressions) -> Iterator[Fault]:
    if type(value) is not int or value < 1:
        yield Fault(path, f"a whole number of at least 1, not {_show(value)}")


def _check_error(value: Any, path: str, _: _Expressions) -> Iterator[Fault]:
    yield from _check_symbol(value, path)


def _check_symbol(symbol: Any, path: str) -> Iterator[Fault]:
    if not isinstance(symbol, str) or not symbol:
        yield Fault(path, f"a symbol is expected, a string like '?x', not {_show(symbol)}")
    elif "/" in symbol and symbol != "/":
        yield Fault(path, f"{symbol} has a namespace; scopes hold symbols without one")


_RULES = {
    "in": _check_in,
    "out": _check_symbols,
    "commit": _check_symbols,
    "into": _check_into,
    "for": _check_for,
    "binding": _check_binding,
    "throttle": _check_throttle,
    "error": _check_error,
}


@frozen
class _Expressions:
    vocabulary: Vocabulary

    def expression(self, value: Any, path: str, depth: int = 1) -> Iterator[Fault]:
        if depth > MAX_DEPTH:
            yield Fault(path, f"nested more than {MAX_DEPTH} levels deep")
        elif type(value) is str:
            if value.startswith("?") and len(value) > 1:
                yield Fault(path, f"'{value}' is a text here; to read the symbol write get('{value}')", "warning")
        elif type(value) is tuple:
            if value:
                yield from self._call(value, path, depth)
        elif isinstance(value, Mapping):
            for key, item in value.items():
                if not isinstance(key, str):
                    yield from self.expression(key, path, depth + 1)
                yield from self.expression(item, f"{path}.{key}" if isinstance(key, str) else path, depth + 1)
        elif isinstance(value, list | tuple | set | frozenset):
            lost = self.lost_tuple(value)
            if lost is not None:
                yield Fault(path, lost)
                return
            for index, item in enumerate(value):
                yield from self.expression(item, f"{path}.{index}", depth + 1)

    def reducer(self, value: Any, path: str) -> Iterator[Fault]:
        heads = self.vocabulary.reducers
        if type(value) is tuple and value and isinstance(value[0], str) and value[0] in heads:
            yield from self._arguments(value, heads[value[0]], path, 1)
            for argument in value[1:]:
                if type(argument) is str:  # of a resolver it may be a name; a reducer's are read for each item
                    yield from self.expression(argument, path, 2)
        else:
            known = ", ".join(sorted(heads))
            lost = self.lost_tuple(value)
            yield Fault(
                path,
                lost or f"into needs a reducer, a tuple like (head, expression), not {_show(value)}; reducers: {known}",
            )

    def lost_tuple(self, value: Any) -> str | None:
        if isinstance(value, list) and value and isinstance(value[0], str):
            head = value[0]
            if head in self.vocabulary.resolvers or head in self.vocabulary.reducers:
                return (
                    f"this expression lost its tuple: write ({head!r}, ...), read plans with plan.loads, "
                    "or quote([...]) for data"
                )
        return None

    def _call(self, value: tuple[Any, ...], path: str, depth: int) -> Iterator[Fault]:
        head = value[0]
        heads = self.vocabulary.resolvers
        if not isinstance(head, str) or head not in heads:
            hint = (
                "reducers stand in into only"
                if isinstance(head, str) and head in self.vocabulary.reducers
                else (f"resolvers: {', '.join(sorted(heads))}; write data as a list, or quote((...))")
            )
            yield Fault(path, f"a tuple is an expression, and {_show(head)} is no resolver; {hint}")
        elif head == "spigot/quote":
            if len(value) != 2:
                yield Fault(path, f"{head} takes exactly 1 argument, not {len(value) - 1}")
        else:
            yield from self._arguments(value, heads[head], path, depth)

    def _arguments(self, value: tuple[Any, ...], arity: Arity, path: str, depth: int) -> Iterator[Fault]:
        count = len(value) - 1
        if not arity.allows(count):
            yield Fault(path, f"{value[0]} takes {arity} argument{'' if arity.most == 1 else 's'}, not {count}")
        for argument in value[1:]:
            if not isinstance(argument, str):
                yield from self.expression(argument, path, depth + 1)


def _did_you_mean(given: str, known: Iterable[str]) -> str:
    """The end of a message that names what is like it: with the namespace or without."""
    full = {word.rpartition("/")[2]: word for word in known}
    near = get_close_matches(given.rpartition("/")[2], full, 1)
    return f"; did you mean {full[near[0]]}?" if near and full[near[0]] != given else ""


def _show(value: Any) -> str:
    if value is None:
        return "None"
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 80 else text[:77] + '...'}"
