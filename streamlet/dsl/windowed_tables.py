"""Tables whose keys lie within windows: their stores, their steps, and how their values are read."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any, TypeAlias

from attrs import evolve, frozen

from streamlet import serdes
from streamlet.dsl.folding import Folding
from streamlet.dsl.idle_time import FollowingIdleTime
from streamlet.dsl.materialized import Materialized, PendingStore
from streamlet.dsl.plan import Step, Writer
from streamlet.dsl.serde_flow import Ask, Serdes
from streamlet.dsl.session_operators import AggregateSessions
from streamlet.dsl.sliding_window_operators import AggregateSlidingWindows
from streamlet.dsl.table_steps import Getter, TableStep, TableView
from streamlet.dsl.time_window_operators import AggregateWindows
from streamlet.dsl.windows import (
    EmitStrategy,
    SessionWindows,
    SlidingWindows,
    TimeWindows,
    UnlimitedWindows,
    duration_ms,
)
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


@frozen
class Emission:
    """When results are sent.

    Attributes:
        strategy: At each update, or once per window.
        idle_after_ms: How long no record has to come for windows to close by the wall clock; None: they never do.
    """

    strategy: EmitStrategy = EmitStrategy.ON_WINDOW_UPDATE
    idle_after_ms: int | None = None

    @staticmethod
    def of(windows: Windows, strategy: EmitStrategy, idle_after: timedelta | None) -> Emission:
        """Return what the user asked for.

        Raises:
            TopologyError: If windows that never close should be sent on closing, or `idle_after` is less than a
                millisecond or goes with another strategy.
        """
        if not isinstance(strategy, EmitStrategy):
            raise TopologyError(f"emit_strategy takes an EmitStrategy, not {strategy!r}")
        if strategy is EmitStrategy.ON_WINDOW_CLOSE and isinstance(windows, UnlimitedWindows):
            raise TopologyError("unlimited windows never close: EmitStrategy.ON_WINDOW_CLOSE would send nothing")
        if idle_after is not None and strategy is not EmitStrategy.ON_WINDOW_CLOSE:
            raise TopologyError("idle_after closes windows: it needs EmitStrategy.ON_WINDOW_CLOSE")
        return Emission(strategy, None if idle_after is None else duration_ms("idle_after", idle_after, least_ms=1))


ON_UPDATE = Emission()
"""Results are sent at each update."""


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
    emission: Emission,
    store: str,
    sends_old: bool,
) -> Operator:
    """Return what aggregates over windows."""
    emit, idle_after_ms = emission.strategy, emission.idle_after_ms
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
    """A step that aggregates over windows.

    Attributes:
        sends_once: Whether it sends one result per window.
    """

    def __init__(
        self,
        name: str,
        parents: Iterable[Step],
        operator: Callable[[TableStep], Operator],
        *,
        store: PendingStore,
        windows: Windows,
        emit: EmitStrategy,
    ) -> None:
        super().__init__(name, parents, lambda _: self._following(operator(self)), store=store, materialized=True)
        self.grace_ms = grace_of(windows)
        self.never_closes = isinstance(windows, UnlimitedWindows)
        self.sends_once = emit is EmitStrategy.ON_WINDOW_CLOSE
        self._sessions = isinstance(windows, SessionWindows)
        self._clocks: list[tuple[str, int]] = []

    def follow(self, node: str, idle_after_ms: int) -> None:
        """Have its stream time go on with the clock of a node that sends each window once, behind it in its task.

        Raises:
            TopologyError: If it sends each window once itself.
        """
        if self.sends_once:
            raise TopologyError(
                f"{node}: idle_after has no meaning here, {self.name} sends each window once itself: "
                f"give it to emit_strategy(EmitStrategy.ON_WINDOW_CLOSE, idle_after=...)"
            )
        self._clocks.append((node, idle_after_ms))

    def _following(self, operator: Operator) -> Operator:
        if not self._clocks:
            return operator
        if isinstance(operator, AggregateSessions):  # the clock does not make the store forget what has been sent
            operator = evolve(operator, closes_for_good=True)
        return FollowingIdleTime(operator, tuple(self._clocks))

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
