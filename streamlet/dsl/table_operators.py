"""The behaviour of tables: a topic read as a table, filters and mappers on changes."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from attrs import frozen

from streamlet.dsl.change import Change
from streamlet.processor.operator import Forward, NodeContext, Operator
from streamlet.records import Headers
from streamlet.state.versioned import NOT_PUT, VALID_TO_UNDEFINED

_log = logging.getLogger(__name__)


def is_latest(valid_to: int | None) -> bool:
    """Tell from what `fast_put` returned whether the row is now the latest one; without versions it always is."""
    return valid_to is None or valid_to == VALID_TO_UNDEFINED


@frozen
class ReadTable(Operator):
    """Turns records into changes of a table: a null value deletes the row.

    Without a store, changes carry no old values. An update with a lower timestamp than the row's is applied all the
    same, unless the store is versioned: then it goes on as one that is not the latest, or, if it is older than the
    history, not at all.
    """

    store: str | None
    sends_old: bool

    def compile(self, context: NodeContext, forward: Forward) -> Forward:
        """Return the function."""
        dropped = context.dropped

        if self.store is None:

            def pass_on(key: Any, value: Any, timestamp: int, headers: Headers) -> None:
                if key is None:
                    dropped("null key")
                else:
                    forward(key, (value, None, True), timestamp, headers)

            return pass_on

        store, sends_old = context.store(self.store), self.sends_old
        get, put, failed, node = store.fast_get, store.fast_put, context.failed, context.node
        looks = sends_old or _log.isEnabledFor(logging.DEBUG)  # a row that is not in memory costs a read

        def read_table(key: Any, value: Any, timestamp: int, headers: Headers) -> None:
            if key is None:
                dropped("null key")
                return
            try:
                row = get(key) if looks else None
                if row is not None and timestamp < row[1]:
                    _log.debug("node %s: out-of-order update, %d after %d", node, timestamp, row[1])
                valid_to = put(key, value, timestamp)
            except Exception as error:
                failed(error, key, value, timestamp, headers)
                return
            if valid_to == NOT_PUT:
                dropped("older than the history")
                return
            old = row[0] if sends_old and row is not None else None
            forward(key, (value, old, is_latest(valid_to)), timestamp, headers)

        return read_table


@frozen
class DeriveTable(Operator):
    """Makes changes of a derived table from those of the table before it: filters and mappers.

    Attributes:
        derive: From key and value to the derived value; not called for None.
        store: Its store, if it has one.
        sends_old: Whether its changes carry old values.
        drops_unseen: Drop a change from no row to no row, if old values are sent; so filters do.
    """

    derive: Callable[[Any, Any], Any]
    store: str | None
    sends_old: bool
    drops_unseen: bool

    def compile(self, context: NodeContext, forward: Forward) -> Forward:
        """Return the function."""
        derive, sends_old, failed, dropped = self.derive, self.sends_old, context.failed, context.dropped
        drops_unseen = self.drops_unseen and sends_old
        store = None if self.store is None else context.store(self.store)

        def derive_table(key: Any, change: Change, timestamp: int, headers: Headers) -> None:
            new, old, latest = change
            try:
                derived = None if new is None else derive(key, new)
                if not sends_old:
                    before = None
                elif store is not None:
                    row = store.fast_get(key)
                    before = None if row is None else row[0]
                else:
                    before = None if old is None else derive(key, old)
                if drops_unseen and derived is None and before is None:
                    return
                if store is not None:
                    valid_to = store.fast_put(key, derived, timestamp)
                    latest = is_latest(valid_to)
            except Exception as error:
                failed(error, key, new, timestamp, headers)
                return
            if store is not None and valid_to == NOT_PUT:
                dropped("older than the history")
                return
            forward(key, (derived, before, latest), timestamp, headers)

        return derive_table


@frozen
class ToStream(Operator):
    """Sends on the new values of changes."""

    def compile(self, context: NodeContext, forward: Forward) -> Forward:
        """Return the function."""

        def to_stream(key: Any, change: Change, timestamp: int, headers: Headers) -> None:
            forward(key, change[0], timestamp, headers)

        return to_stream
