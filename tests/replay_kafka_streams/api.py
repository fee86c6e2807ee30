"""streamlet's public names, looked up when they are needed: what does not exist puts a case out of scope, by name."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from datetime import timedelta
from functools import cache
from typing import Any

from tests.replay_kafka_streams.verdict import OutOfScopeError


@cache
def _modules() -> tuple[Any, ...]:
    """Return the packages to look in: the public one first, then the rooms it is made of."""
    public = importlib.import_module("streamlet")
    found = [public]
    for room in ("dsl", "state", "processor", "topology", "testing", "runtime"):
        package = importlib.import_module(f"streamlet.{room}")
        found.append(package)
        for info in pkgutil.iter_modules(package.__path__):
            found.append(importlib.import_module(f"streamlet.{room}.{info.name}"))
    return tuple(found)


@cache
def need(name: str) -> Any:
    """Return a class or function of streamlet.

    Raises:
        OutOfScopeError: If there is none of that name.
    """
    for module in _modules():
        if hasattr(module, name):
            return getattr(module, name)
    raise OutOfScopeError(f"streamlet has no {name}")


def call(target: Any, method: str, *arguments: Any, **options: Any) -> Any:
    """Call a method by name; options that are None are left out.

    Raises:
        OutOfScopeError: If there is no such method, or it does not take an option.
    """
    function = getattr(target, method, None)
    kind = target.__name__ if isinstance(target, type) else type(target).__name__
    if function is None:
        raise OutOfScopeError(f"{kind} has no method {method}")
    given = {key: value for key, value in options.items() if value is not None}
    parameters = inspect.signature(function).parameters
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        for key in given:
            if key not in parameters:
                raise OutOfScopeError(f"{kind}.{method} has no parameter {key!r}")
    return function(*arguments, **given)


def make(name: str, *arguments: Any, **options: Any) -> Any:
    """Make an object of a class of streamlet, as `call` calls a method."""
    kind = need(name)
    given = {key: value for key, value in options.items() if value is not None}
    parameters = inspect.signature(kind).parameters
    for key in given:
        if key not in parameters:
            raise OutOfScopeError(f"{name} has no parameter {key!r}")
    return kind(*arguments, **given)


def ms(milliseconds: int) -> timedelta:
    """Return a duration."""
    return timedelta(milliseconds=milliseconds)
