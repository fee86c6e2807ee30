"""Tables whose keys lie within windows: their stores, their steps, and how their values are read."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any, TypeAlias

from streamlet import serdes
from streamlet.dsl.folding import Folding
from streamlet.dsl.materialized import Materialized, PendingStore
from streamlet.dsl.plan import Step, Writer
from streamlet.dsl.serde_flow import Ask, Serdes
from streamlet.dsl.session_operators import AggregateSessions
from streamlet.dsl.sliding_window_operators import AggregateSlidingWindows
from streamlet.dsl.table_steps import Getter, TableStep, TableView
from streamlet.dsl.time_window_operators import AggregateWindows
from streamlet.dsl.windows import EmitStrategy, SessionWindows, SlidingWindows, TimeWindows, UnlimitedWindows
from streamlet.errors import TopologyError
from streamlet.processor.operator import NodeContext, Operator
from streamlet.serdes import Serde
from streamlet.state import StoreBuilder, Stores
from streamlet.time import milliseconds

Windows: TypeAlias = TimeWindows | SlidingWindows | UnlimitedWindows | SessionWindows


class PendingWindowStore(PendingStore):
    """The store of a windowed aggregation.

    Attributes:
        retention: How long it keeps windows.

    Raises:
        TopologyError: If the retention that the user gave is too short for the windows and their grace.
    """

    def __init__(
        self,
        name: str,
        options: Materialized[Any],
        serdes: Serdes,
        ask: Ask,
        windows: Windows,
        emit: EmitStrategy = EmitStrategy.ON_WINDOW_UPDATE,
    ) -> None:
        super().__init__(name, options, serdes, ask)
        self._windows = windows
        self.caching = self.caching and emit is not EmitStrategy.ON_WINDOW_CLOSE
        self.retention = _retention(name, options, windows, emit)

    def builder(self, writer: Writer, node: str) -> StoreBuilder[Any]:
        """Return its declaration."""
        key_serde = writer.key_serde(self.serdes.key, node, self.ask)
        value_serde = writer.value_serde(self.serdes.value, node, self.ask)
        options: dict[str, Any] = {
            "retention": self.retention,
            "in_memory": self.options.in_memory,
            "logging": self.options.logging,
            "immutable_values": self.options.immutable_values,
            "changelog_config": self.options.changelog_config,
        }
        if isinstance(self._windows, SessionWindows):
            return Stores.session(self.name, key_serde, value_serde, **options)
        size = size_of(self._windows)
        return Stores.timestamped_window(self.name, key_serde, value_serde, window_size=size, **options)


def size_of(windows: TimeWindows | SlidingWindows | UnlimitedWindows) -> timedelta:
    """Return how long windows are; `timedelta.max` if they do not end."""
    return timedelta.max if isinstance(windows, UnlimitedWindows) else timedelta(milliseconds=windows.size_ms)


def _retention(name: str, options: Materialized[Any], windows: Windows, emit: EmitStrategy) -> timedelta:
    if isinstance(windows, UnlimitedWindows):
        if options.retention is not None:
            raise TopologyError(f"store {name!r}: unlimited windows are kept for ever, a retention cannot be given")
        return timedelta.max
    least = windows.retention_ms
    final = emit is EmitStrategy.ON_WINDOW_CLOSE
    if options.retention is None:
        if final and isinstance(windows, SlidingWindows):
            least += 1  # as in Kafka Streams: a window is just there when it closes
        elif final:
            least *= 2  # results may wait for their interval without the store forgetting them
        return timedelta(milliseconds=least)
    given = milliseconds(options.retention)
    if given < least:
        raise TopologyError(
            f"store {name!r}: the retention, {given} ms, is shorter than {_needed(windows)}, {least} ms: "
            f"windows would be forgotten before they close. Give Materialized(retention=...) at least that"
        )
    return options.retention


def _needed(windows: TimeWindows | SlidingWindows | SessionWindows) -> str:
    if isinstance(windows, SessionWindows):
        return "the inactivity gap and the grace"
    return "twice the time difference and the grace" if isinstance(windows, SlidingWindows) else "size and grace"


def windowed_serdes(known: Serdes, windows: Windows) -> Serdes:
    """Return the serdes of a table over windows, of those of the stream's keys and the table's values."""

    def wrap(inner: Serde[Any]) -> Serde[Any]:
        if isinstance(windows, SessionWindows):
            return serdes.session_windowed(inner)
        return serdes.time_windowed(inner, size_of(windows))

    return known.wrapping_key(wrap)


def aggregation(
    windows: Windows,
    folding: Folding,
    emit: EmitStrategy,
    store: str,
    sends_old: bool,
    idle_after_ms: int | None = None,
) -> Operator:
    """Return what aggregates over windows."""
    if isinstance(windows, SessionWindows):
        return AggregateSessions(folding, windows, emit, store, sends_old, idle_after_ms)
    if isinstance(windows, SlidingWindows):
        return AggregateSlidingWindows(folding, windows, emit, store, sends_old, idle_after_ms)
    return AggregateWindows(folding, windows, emit, store, sends_old, idle_after_ms)


def grace_of(windows: Windows) -> int | None:
    """Return how long after their end windows may still change (ms); None if they do not end."""
    if isinstance(windows, UnlimitedWindows):
        return None
    return windows.retention_ms if isinstance(windows, SessionWindows) else windows.grace_ms


class WindowedTableStep(TableStep):
    """A step that aggregates over windows."""

    def __init__(
        self,
        name: str,
        parents: Iterable[Step],
        operator: Callable[[TableStep], Operator],
        *,
        store: PendingStore,
        windows: Windows,
    ) -> None:
        super().__init__(name, parents, operator, store=store, materialized=True)
        self.grace_ms = grace_of(windows)
        self.never_closes = isinstance(windows, UnlimitedWindows)
        self._sessions = isinstance(windows, SessionWindows)

    def view(self) -> TableView:
        """Return how its values are read: by keys within windows."""
        name = self.store_in_use
        assert name is not None, f"{self.name} has no store to be read from"

        def of_window(context: NodeContext) -> Getter:
            get = context.store(name).fast_get
            return self.as_sent(context, lambda key: get(key.key, key.window.start))

        def of_session(context: NodeContext) -> Getter:
            fetch = context.store(name).fetch_session

            def get(key: Any) -> tuple[Any, int] | None:
                aggregate = fetch(key.key, key.window.start, key.window.end)
                return None if aggregate is None else (aggregate, key.window.end)

            return self.as_sent(context, get)

        return TableView((name,), of_session if self._sessions else of_window)
