"""Aggregations of streams into versioned tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from streamlet.dsl.change import Change
from streamlet.dsl.table_operators import is_latest
from streamlet.processor.operator import Forward, NodeContext
from streamlet.records import Headers
from streamlet.state.versioned import NOT_PUT, VersionedKeyValueStore

Put: TypeAlias = Callable[[Any, Any, int], Any]


def keeping_versions(store: Any, context: NodeContext, forward: Forward) -> tuple[Put, Forward]:
    """Return how rows of a store are put, and how their changes are sent on.

    For a versioned store, a change that is older than the history is counted as dropped instead of sent; other stores
    take everything, and pay nothing for this.
    """
    if not isinstance(store, VersionedKeyValueStore):
        return store.fast_put, forward
    put, dropped = store.fast_put, context.dropped
    valid_to = NOT_PUT

    def put_version(key: Any, value: Any, timestamp: int) -> None:
        nonlocal valid_to
        valid_to = put(key, value, timestamp)

    def forward_version(key: Any, change: Change, timestamp: int, headers: Headers) -> None:
        if valid_to == NOT_PUT:
            dropped("older than the history")
        else:
            forward(key, (change[0], change[1], is_latest(valid_to)), timestamp, headers)

    return put_version, forward_version
