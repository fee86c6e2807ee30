"""The behaviour of regrouped tables: rows move between groups, groups are added to and subtracted from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import frozen

from streamlet.dsl.change import Change
from streamlet.dsl.table_operators import is_latest
from streamlet.errors import TopologyError
from streamlet.processor.operator import Forward, NodeContext, Operator
from streamlet.records import Headers
from streamlet.state.versioned import NOT_PUT


@frozen
class Regroup(Operator):
    """Sends each change to the groups of its old and its new row.

    If both are the same, one record carries both (KIP-904); else the subtraction goes first. A side for which the
    selector returns None, or a key or value of None, is left out. Updates out of order are dropped.
    """

    selector: Callable[[Any, Any], tuple[Any, Any] | None]

    def compile(self, context: NodeContext, forward: Forward) -> Forward:
        """Return the function."""
        selector, failed, dropped, node = self.selector, context.failed, context.dropped, context.node

        def group_of(key: Any, value: Any) -> tuple[Any, Any] | None:
            if value is None:
                return None
            pair = selector(key, value)
            if pair is None:
                return None
            if not isinstance(pair, tuple) or len(pair) != 2:
                raise TopologyError(f"node {node}: group_by's selector returns (key, value) or None, not {pair!r}")
            return None if pair[0] is None or pair[1] is None else pair

        def regroup(key: Any, change: Change, timestamp: int, headers: Headers) -> None:
            new_value, old_value, latest = change
            if not latest:
                dropped("out-of-order update of a versioned table")
                return
            try:
                new, old = group_of(key, new_value), group_of(key, old_value)
            except Exception as error:
                failed(error, key, new_value, timestamp, headers)
                return
            # of one type too: 1 == True, but they are other groups; two records are right for any two keys
            if new is not None and old is not None and new[0] == old[0] and type(new[0]) is type(old[0]):
                forward(new[0], (new[1], old[1], True), timestamp, headers)
                return
            if old is not None:
                forward(old[0], (None, old[1], True), timestamp, headers)
            if new is not None:
                forward(new[0], (new[1], None, True), timestamp, headers)

        return regroup


@frozen
class AggregateTable(Operator):
    """Subtracts the old value of a change from its group's aggregate, then adds the new one.

    Without an aggregate there is nothing to subtract from; adding begins with the initial one.

    Attributes:
        initializer: Returns the aggregate before the first row; None: the first row's value is taken as it is.
        adder: From key, value and aggregate to the new aggregate.
        subtractor: The same for values that leave the group.
        store: Name of the store.
        sends_old: Whether changes carry the old aggregate.
    """

    initializer: Callable[[], Any] | None
    adder: Callable[[Any, Any, Any], Any]
    subtractor: Callable[[Any, Any, Any], Any]
    store: str
    sends_old: bool

    def compile(self, context: NodeContext, forward: Forward) -> Forward:
        """Return the function."""
        initializer, adder, subtractor = self.initializer, self.adder, self.subtractor
        store, sends_old = context.store(self.store), self.sends_old
        get, put, failed, dropped = store.fast_get, store.fast_put, context.failed, context.dropped

        def aggregate(key: Any, change: Change, timestamp: int, headers: Headers) -> None:
            if key is None:
                dropped("null key")
                return
            new, old, _ = change
            try:
                row = get(key)
                aggregated, time = None, timestamp
                if row is not None:
                    aggregated, before = row
                    time = max(before, timestamp)
                    if old is not None:
                        aggregated = subtractor(key, old, aggregated)
                if new is not None:
                    if aggregated is not None:
                        aggregated = adder(key, new, aggregated)
                    elif initializer is None:
                        aggregated = new
                    else:
                        aggregated = adder(key, new, initializer())
                if sends_old and row is not None:
                    row = get(key)  # again: the functions may have changed the aggregate in place
                valid_to = put(key, aggregated, time)
            except Exception as error:
                failed(error, key, new, timestamp, headers)
                return
            if valid_to == NOT_PUT:
                dropped("older than the history")
                return
            sent = row[0] if sends_old and row is not None else None
            forward(key, (aggregated, sent, is_latest(valid_to)), time, headers)

        return aggregate
