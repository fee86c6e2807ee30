"""Folds: how values become an aggregate, in a form that all windowed aggregations share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import frozen


@frozen
class Folding:
    """How values become an aggregate.

    Attributes:
        initializer: Returns the aggregate before the first record.
        aggregator: From key, value and the aggregate so far to the new one; None deletes it.
        merger: From key and two aggregates to the one of a merged session; None where there are no sessions.
        counts: Whether it only counts: operators may then do without calling the functions.
    """

    initializer: Callable[[], Any]
    aggregator: Callable[[Any, Any, Any], Any]
    merger: Callable[[Any, Any, Any], Any] | None = None
    counts: bool = False


COUNT = Folding(int, lambda key, value, count: count + 1, lambda key, one, other: one + other, counts=True)
"""Counts records."""


def reducing(reducer: Callable[[Any, Any], Any]) -> Folding:
    """Return the fold that combines values; the first one is taken as it is."""

    def aggregator(key: Any, value: Any, aggregate: Any) -> Any:
        return value if aggregate is None else reducer(aggregate, value)

    def merger(key: Any, one: Any, other: Any) -> Any:
        return other if one is None else reducer(one, other)

    return Folding(_nothing, aggregator, merger)


def _nothing() -> None:
    """Return what there is before the first value."""
