"""What users give to operators is looked at where they give it: a mistake is an error of that line, not of a record."""

from __future__ import annotations

from inspect import isasyncgenfunction, iscoroutinefunction, signature

from streamlet.errors import TopologyError
from streamlet.serdes import Serde

KEY_AND_VALUE = ("key", "value")
FOLD = ("key", "value", "aggregate")
MERGE = ("key", "aggregate", "aggregate")
PARTITION = ("topic", "key", "value", "number of partitions")


def check_function(function: object, operator: str, takes: tuple[str, ...], *, hint: str = "") -> None:
    """Check that an operator can call what it was given.

    Only what is certain is refused: a callable that does not tell its parameters is taken as it is, and so is what a
    decorator made.

    Args:
        function: What the user gave.
        operator: The method, for the message.
        takes: What it will be called with, for the message too.
        hint: What else could be meant if the number of parameters is wrong.

    Raises:
        TopologyError: If it is no function, one that would have to be awaited, or one of other parameters.
    """
    if not callable(function):
        raise TopologyError(f"{operator} takes a function {_of(takes)}, not {function!r}")
    called = getattr(function, "__name__", None) or repr(function)
    ways = function, type(function).__call__
    if any(map(iscoroutinefunction, ways)) or any(map(isasyncgenfunction, ways)):
        raise TopologyError(
            f"{operator} does not wait for coroutines, and {called!r} returns one: map_values_async is for functions "
            f"that wait"
        )
    try:
        parameters = signature(function, follow_wrapped=False)
    except (TypeError, ValueError):  # some built-in ones
        return
    try:
        parameters.bind(*takes)
    except TypeError:
        raise TopologyError(f"{operator} takes a function {_of(takes)}, not {called}{parameters}{hint}") from None


def _of(takes: tuple[str, ...]) -> str:
    if not takes:
        return "without parameters"
    *first, last = takes
    return f"of {', '.join(first)} and {last}" if first else f"of {last}"


def check_with_key(function: object, operator: str, takes: tuple[str, ...], *, with_key: bool) -> None:
    """Check a function that gets the key first if the user wants it to; see `check_function`."""
    if with_key:
        check_function(function, f"{operator} with with_key=True", ("key", *takes))
    else:
        check_function(function, operator, takes, hint="; with_key=True gives it the key first")


def check_serde(serde: object, what: str) -> None:
    """Check that an optional serde is one.

    Raises:
        TopologyError: If it is something else.
    """
    if serde is not None and not isinstance(serde, Serde):
        raise TopologyError(f"{what} must be a Serde (see streamlet.serdes), not {serde!r}")
