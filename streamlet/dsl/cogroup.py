"""Cogrouping: several grouped streams, possibly of different types, feed one aggregate per key (KIP-150)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, overload

from attrs import frozen

from streamlet.dsl.folding import Folding
from streamlet.dsl.given import FOLD, MERGE, check_function
from streamlet.dsl.materialized import Materialized, PendingStore, Store, materialized
from streamlet.dsl.plan import Plan, Step
from streamlet.dsl.repartition import RepartitionStep
from streamlet.dsl.serde_flow import Ask, Serdes
from streamlet.dsl.table import KTable
from streamlet.dsl.table_steps import TableStep, TableView
from streamlet.dsl.windowed_tables import (
    ON_UPDATE,
    Emission,
    PendingWindowStore,
    WindowedTableStep,
    Windows,
    aggregation,
    windowed_serdes,
)
from streamlet.dsl.windows import EmitStrategy, SessionWindows, SlidingWindows, TimeWindows, UnlimitedWindows
from streamlet.errors import TopologyError
from streamlet.processor.operator import Forward, NodeContext, Operator
from streamlet.records import Windowed

if TYPE_CHECKING:
    from streamlet.dsl.grouped import KGroupedStream

K_co = TypeVar("K_co", covariant=True)
V = TypeVar("V")
VA = TypeVar("VA")

_AGGREGATE = "COGROUPKSTREAM-AGGREGATE-"
_MERGE = "COGROUPKSTREAM-MERGE-"
_ASK = Ask("group_by(key_serde=...) or group_by_key(key_serde=...)", "store=Materialized(value_serde=...)")

_Aggregator = Callable[[Any, Any, Any], Any]


@frozen
class _PassOn(Operator):
    """Sends the changes of all its parents on."""

    def compile(self, context: NodeContext, forward: Forward) -> Forward:
        """Return the function."""
        return forward


class _MergedTable(TableStep):
    """The one table of several aggregations that share a store."""

    def __init__(self, name: str, parts: list[TableStep]) -> None:
        super().__init__(name, parts, lambda _: _PassOn())
        self._parts = parts

    def send_old_values(self, *, force: bool) -> bool:
        """Have its changes carry old values: all parts have to."""
        answers = [part.send_old_values(force=force) for part in self._parts]
        self.sends_old_values = all(answers)
        return self.sends_old_values

    def view(self) -> TableView:
        """Return how its values are read: from the store that the parts share."""
        return self._parts[0].view()


class _Group:
    """The grouped streams with an aggregator each, in the order in which they were added."""

    def __init__(self, parts: Iterable[tuple[KGroupedStream[Any, Any], _Aggregator]]) -> None:
        self.parts = tuple(parts)

    @property
    def plan(self) -> Plan:
        """The program."""
        return self.parts[0][0].plan

    def table(
        self,
        options: Materialized[Any],
        name: str | None,
        store_of: Callable[[str, Serdes], PendingStore],
        step_of: Callable[[str, Step, _Aggregator, PendingStore], TableStep],
        serdes_of: Callable[[Serdes], Serdes],
    ) -> KTable[Any, Any]:
        """Add an aggregation per stream and what merges them, in the order in which Kafka Streams counts."""
        plan, first = self.plan, self.parts[0][0]
        store_name = options.name or plan.store_name(_AGGREGATE)
        repartitioned = [grouped.repartitioned(store_name) for grouped, _ in self.parts]
        self._check_topics([parent for parent, _ in repartitioned])
        nodes = [plan.suffixed_name(name, f"-cogroup-agg-{place}", _AGGREGATE) for place in range(len(self.parts))]
        merge = plan.suffixed_name(name, "-cogroup-merge", _MERGE)
        known = first.serdes.losing_value(merge, "aggregates").given(value=options.value_serde)
        store = store_of(store_name, known)
        steps = []
        for node, (parent, _), (_, aggregator) in zip(nodes, repartitioned, self.parts, strict=True):
            steps.append(step_of(node, parent, aggregator, store))
            plan.add(steps[-1])
        sources = frozenset[Step]().union(*(sources for _, sources in repartitioned))
        if len(self.parts) > 1:
            plan.copartition(sorted(sources, key=plan.steps.index))
        merged = _MergedTable(merge, steps)
        plan.add(merged)
        return KTable(plan, merged, serdes_of(known), sources, options.name)

    def _check_topics(self, parents: list[Step]) -> None:
        topics = [parent.topic for parent in dict.fromkeys(parents) if isinstance(parent, RepartitionStep)]
        for topic in topics:
            if topics.count(topic) > 1:
                raise TopologyError(
                    f"several of the streams that are cogrouped need a repartition topic, and all would be called "
                    f"{topic}: name the groupings, group_by(..., name=...)"
                )


class CogroupedKStream(Generic[K_co, VA]):
    """Grouped streams that are aggregated into one table. Made by `KGroupedStream.cogroup`.

    ::

        (clicks.group_by_key().cogroup(lambda _, click, user: user.clicked(click))
            .cogroup(orders.group_by_key(), lambda _, order, user: user.ordered(order))
            .aggregate(User, store=Materialized("users", value_serde=serdes.json_of(User))))

    All streams must have equal numbers of partitions.
    """

    def __init__(self, parts: Iterable[tuple[KGroupedStream[Any, Any], _Aggregator]]) -> None:
        self._group = _Group(parts)

    def cogroup(
        self, grouped: KGroupedStream[Any, V], aggregator: Callable[[K_co, V, VA], VA | None]
    ) -> CogroupedKStream[K_co, VA]:
        """Add a grouped stream.

        Args:
            grouped: With the same type of keys.
            aggregator: From key, value and the aggregate so far to the new one; None deletes it.
        """
        from streamlet.dsl.grouped import KGroupedStream  # it makes these

        if not isinstance(grouped, KGroupedStream):
            raise TopologyError(f"cogroup() takes what group_by or group_by_key returns, not {grouped!r}")
        if grouped.plan is not self._group.plan:
            raise TopologyError("the grouped streams come from different StreamsBuilders")
        check_function(aggregator, "cogroup()", FOLD)
        if any(grouped is other for other, _ in self._group.parts):
            raise TopologyError("this grouped stream is cogrouped already: one aggregator can do what two would")
        return CogroupedKStream((*self._group.parts, (grouped, aggregator)))

    def aggregate(
        self, initializer: Callable[[], VA], *, store: Store[VA] = None, name: str | None = None
    ) -> KTable[K_co, VA]:
        """Fold the values of each key into an aggregate; records without key or value are dropped.

        Args:
            initializer: Returns the aggregate before the first record.
            store: Name or options of the store; the aggregate needs a value_serde.
            name: Prefix of the nodes' names.
        """
        from streamlet.dsl.grouped import Aggregate  # it needs this module

        check_function(initializer, "aggregate(), as initializer,", ())
        options = materialized(store)

        def store_of(store_name: str, known: Serdes) -> PendingStore:
            return PendingStore(store_name, options, known, _ASK)

        def step_of(node: str, parent: Step, aggregator: _Aggregator, store: PendingStore) -> TableStep:
            def operator(step: TableStep) -> Operator:
                return Aggregate(initializer, aggregator, store.name, step.sends_old_values)

            return TableStep(node, [parent], operator, store=store, materialized=True)

        return self._group.table(options, name, store_of, step_of, lambda known: known)

    @overload
    def windowed_by(
        self, windows: TimeWindows | SlidingWindows | UnlimitedWindows, /
    ) -> TimeWindowedCogroupedKStream[K_co, VA]: ...
    @overload
    def windowed_by(self, windows: SessionWindows, /) -> SessionWindowedCogroupedKStream[K_co, VA]: ...
    def windowed_by(self, windows: Windows, /) -> Any:
        """Aggregate per window: the result's keys are `Windowed`.

        Args:
            windows: `TimeWindows`, `SlidingWindows`, `SessionWindows` or `UnlimitedWindows`.
        """
        if isinstance(windows, SessionWindows):
            return SessionWindowedCogroupedKStream(self._group, windows)
        if isinstance(windows, TimeWindows | SlidingWindows | UnlimitedWindows):
            return TimeWindowedCogroupedKStream(self._group, windows)
        raise TopologyError(
            f"windowed_by takes TimeWindows, SlidingWindows, SessionWindows or UnlimitedWindows, not {windows!r}"
        )


class _WindowedCogrouped:
    """What cogrouped streams in windows have in common."""

    def __init__(self, group: _Group, windows: Windows, emission: Emission = ON_UPDATE) -> None:
        self._group = group
        self._windows = windows
        self._emission = emission

    def emit_strategy(self, strategy: EmitStrategy, *, idle_after: timedelta | None = None) -> Self:
        """Choose when results are sent: at each update (the default), or once per window when it has closed.

        With ``ON_WINDOW_CLOSE`` stream time, which tells what has closed and what is late, is that of all streams
        together; with updates each stream has its own. Kafka Streams has the latter only.

        Args:
            strategy: When.
            idle_after: With ``ON_WINDOW_CLOSE``: when none of the streams had a record in this task for so long (wall
                clock), stream time goes on by the wall clock, so that the last windows close, too. Records that are
                behind it then are late. Default: windows wait for the next record.

        Raises:
            TopologyError: If windows that never close should be sent on closing, or `idle_after` is less than a
                millisecond or goes with another strategy.
        """
        return type(self)(self._group, self._windows, Emission.of(self._windows, strategy, idle_after))

    def _table(
        self, folding_of: Callable[[_Aggregator], Folding], store: Store[Any], name: str | None
    ) -> KTable[Any, Any]:
        windows, emission, options = self._windows, self._emission, materialized(store, windowed=True)

        def store_of(store_name: str, known: Serdes) -> PendingStore:
            return PendingWindowStore(store_name, options, known, _ASK, windows, emission.strategy)

        def step_of(node: str, parent: Step, aggregator: _Aggregator, store: PendingStore) -> TableStep:
            def operator(step: TableStep) -> Operator:
                return aggregation(windows, folding_of(aggregator), emission, store.name, step.sends_old_values)

            return WindowedTableStep(node, [parent], operator, store=store, windows=windows, emit=emission.strategy)

        return self._group.table(options, name, store_of, step_of, lambda known: windowed_serdes(known, windows))


class TimeWindowedCogroupedKStream(_WindowedCogrouped, Generic[K_co, VA]):
    """Cogrouped streams in time windows. Made by `CogroupedKStream.windowed_by`."""

    def __init__(
        self,
        group: _Group,
        windows: TimeWindows | SlidingWindows | UnlimitedWindows,
        emission: Emission = ON_UPDATE,
    ) -> None:
        super().__init__(group, windows, emission)

    def aggregate(
        self, initializer: Callable[[], VA], *, store: Store[VA] = None, name: str | None = None
    ) -> KTable[Windowed[K_co], VA]:
        """Fold the values of each key and window into an aggregate; records without key are dropped.

        What is late is told by the time of each stream on its own, unless results are sent once per window.

        Args:
            initializer: Returns the aggregate before the first record.
            store: Name or options of the store; the aggregate needs a value_serde.
            name: Prefix of the nodes' names.
        """
        check_function(initializer, "aggregate(), as initializer,", ())
        return self._table(lambda aggregator: Folding(initializer, aggregator), store, name)


class SessionWindowedCogroupedKStream(_WindowedCogrouped, Generic[K_co, VA]):
    """Cogrouped streams in sessions. Made by `CogroupedKStream.windowed_by`."""

    def __init__(self, group: _Group, windows: SessionWindows, emission: Emission = ON_UPDATE) -> None:
        super().__init__(group, windows, emission)

    def aggregate(
        self,
        initializer: Callable[[], VA],
        session_merger: Callable[[K_co, VA, VA], VA],
        *,
        store: Store[VA] = None,
        name: str | None = None,
    ) -> KTable[Windowed[K_co], VA]:
        """Fold the values of each key and session into an aggregate; records without key are dropped.

        What is late is told by the time of each stream on its own, unless results are sent once per window.

        Args:
            initializer: Returns the aggregate before the first record.
            session_merger: From key and the aggregates of two sessions to that of the merged one.
            store: Name or options of the store; the aggregate needs a value_serde.
            name: Prefix of the nodes' names.
        """
        check_function(initializer, "aggregate(), as initializer,", ())
        check_function(session_merger, "aggregate(), as session merger,", MERGE)
        return self._table(lambda aggregator: Folding(initializer, aggregator, session_merger), store, name)
