"""Grouped streams, and what is computed for each of their keys: count, reduce, aggregate."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from attrs import frozen

from streamlet import serdes as built_in
from streamlet.dsl.given import FOLD, check_function
from streamlet.dsl.materialized import Materialized, Store, materialized, pending_store
from streamlet.dsl.plan import Plan, Step
from streamlet.dsl.repartition import insert_repartition
from streamlet.dsl.serde_flow import Ask, Serdes
from streamlet.dsl.table import KTable
from streamlet.dsl.table_steps import TableStep
from streamlet.dsl.versioned_rows import keeping_versions
from streamlet.dsl.windows import SessionWindows, SlidingWindows, TimeWindows, UnlimitedWindows
from streamlet.errors import TopologyError
from streamlet.processor.operator import Forward, NodeContext, Operator
from streamlet.records import Headers

if TYPE_CHECKING:
    from streamlet.dsl.cogroup import CogroupedKStream
    from streamlet.dsl.windowed import SessionWindowedKStream, TimeWindowedKStream

K_co = TypeVar("K_co", covariant=True)
V_co = TypeVar("V_co", covariant=True)
VA = TypeVar("VA")

_ASK = Ask(
    "group_by(key_serde=...) or group_by_key(key_serde=...)",
    "group_by(value_serde=...) or group_by_key(value_serde=...)",
)
_ASK_STORE = Ask(_ASK.key, "store=Materialized(value_serde=...)")
_AGGREGATE = "KSTREAM-AGGREGATE-"
_REDUCE = "KSTREAM-REDUCE-"


@frozen
class Count(Operator):
    """Counts the records of each key. A record without key or value is dropped."""

    store: str
    sends_old: bool

    def compile(self, context: NodeContext, forward: Forward) -> Forward:
        """Return the function."""
        store, sends_old = context.store(self.store), self.sends_old
        get, dropped, failed = store.fast_get, context.dropped, context.failed
        put, forward = keeping_versions(store, context, forward)

        def count(key: Any, value: Any, timestamp: int, headers: Headers) -> None:
            if key is None or value is None:
                dropped("null key or value")
                return
            try:
                row = get(key)
                if row is None:
                    old = 0
                else:
                    old, before = row
                    if before > timestamp:
                        timestamp = before
                new = old + 1
                put(key, new, timestamp)
            except Exception as error:
                failed(error, key, value, timestamp, headers)
                return
            forward(key, (new, old if sends_old else None, True), timestamp, headers)

        return count


@frozen
class Reduce(Operator):
    """Combines the values of each key; the first one is taken as it is. A record without key or value is dropped."""

    reducer: Callable[[Any, Any], Any]
    store: str
    sends_old: bool

    def compile(self, context: NodeContext, forward: Forward) -> Forward:
        """Return the function."""
        store, sends_old, reducer = context.store(self.store), self.sends_old, self.reducer
        get, dropped, failed = store.fast_get, context.dropped, context.failed
        put, forward = keeping_versions(store, context, forward)

        def reduce(key: Any, value: Any, timestamp: int, headers: Headers) -> None:
            if key is None or value is None:
                dropped("null key or value")
                return
            try:
                row = get(key)
                if row is None:
                    old, new, time = None, value, timestamp
                else:
                    old, before = row
                    new, time = reducer(old, value), max(before, timestamp)
                    if sends_old and new is old:  # changed in place: what it was is only in the store
                        old = get(key)[0]
                put(key, new, time)
            except Exception as error:
                failed(error, key, value, timestamp, headers)
                return
            forward(key, (new, old if sends_old else None, True), time, headers)

        return reduce


@frozen
class Aggregate(Operator):
    """Folds the values of each key into an aggregate; None deletes it. A record without key or value is dropped."""

    initializer: Callable[[], Any]
    aggregator: Callable[[Any, Any, Any], Any]
    store: str
    sends_old: bool

    def compile(self, context: NodeContext, forward: Forward) -> Forward:
        """Return the function."""
        store, sends_old = context.store(self.store), self.sends_old
        initializer, aggregator = self.initializer, self.aggregator
        get, dropped, failed = store.fast_get, context.dropped, context.failed
        put, forward = keeping_versions(store, context, forward)

        def aggregate(key: Any, value: Any, timestamp: int, headers: Headers) -> None:
            if key is None or value is None:
                dropped("null key or value")
                return
            try:
                row = get(key)
                if row is None:
                    old, time = initializer(), timestamp
                else:
                    old, before = row
                    time = max(before, timestamp)
                new = aggregator(key, value, old)
                if sends_old and new is old:  # changed in place: what it was is only in the store
                    old = initializer() if row is None else get(key)[0]
                put(key, new, time)
            except Exception as error:
                failed(error, key, value, timestamp, headers)
                return
            forward(key, (new, old if sends_old else None, True), time, headers)

        return aggregate


class KGroupedStream(Generic[K_co, V_co]):
    """A stream whose records are grouped by key, to be aggregated. Made by `KStream.group_by_key` and `group_by`."""

    def __init__(
        self,
        plan: Plan,
        step: Step,
        serdes: Serdes,
        sources: frozenset[Step],
        *,
        repartition_required: bool,
        name: str | None,
    ) -> None:
        self.plan = plan
        self.step = step
        self.serdes = serdes
        self.sources = sources
        self._repartition_required = repartition_required
        self._name = name
        self._repartitioned: Step | None = None

    def count(self, *, store: Store[int] = None, name: str | None = None) -> KTable[K_co, int]:
        """Count the records of each key; those without key or value are dropped.

        Args:
            store: Name or options of the store; its values are int64 unless another serde is given.
            name: Name of the node.
        """
        options = materialized(store)
        if store is not None and options.name is None:
            self.plan.store_name(
                _AGGREGATE
            )  # Kafka Streams uses up a number here that it has no use for, to stay compatible
        serdes = Serdes(self.serdes.key, options.value_serde or built_in.int64)
        return self._aggregated(
            _AGGREGATE, serdes, options, name, lambda step: Count(step.store_in_use or "", step.sends_old_values)
        )

    def reduce(
        self, reducer: Callable[[V_co, V_co], V_co], *, store: Store[Any] = None, name: str | None = None
    ) -> KTable[K_co, V_co]:
        """Combine the values of each key; records without key or value are dropped.

        Args:
            reducer: From the value so far and the next one to the new one; the first value is taken as it is. None
                deletes.
            store: Name or options of the store.
            name: Name of the node.
        """
        check_function(reducer, "reduce()", ("value so far", "next value"))
        options = materialized(store)
        return self._aggregated(
            _REDUCE,
            self.serdes.given(value=options.value_serde),
            options,
            name,
            lambda step: Reduce(reducer, step.store_in_use or "", step.sends_old_values),
        )

    def aggregate(
        self,
        initializer: Callable[[], VA],
        aggregator: Callable[[K_co, V_co, VA], VA | None],
        *,
        store: Store[VA] = None,
        name: str | None = None,
    ) -> KTable[K_co, VA]:
        """Fold the values of each key into an aggregate; records without key or value are dropped.

        Args:
            initializer: Returns the aggregate before the first record.
            aggregator: From key, value and the aggregate so far to the new one; None deletes it.
            store: Name or options of the store; the aggregate needs a value_serde.
            name: Name of the node.
        """
        check_function(initializer, "aggregate(), as initializer,", ())
        check_function(aggregator, "aggregate()", FOLD)
        options = materialized(store)

        def serdes(node: str) -> Serdes:
            return self.serdes.losing_value(node, "aggregates").given(value=options.value_serde)

        return self._aggregated(
            _AGGREGATE,
            serdes,
            options,
            name,
            lambda step: Aggregate(initializer, aggregator, step.store_in_use or "", step.sends_old_values),
        )

    def cogroup(self, aggregator: Callable[[K_co, V_co, VA], VA | None]) -> CogroupedKStream[K_co, VA]:
        """Aggregate this stream together with others into one table.

        Args:
            aggregator: From key, value and the aggregate so far to the new one; None deletes it.
        """
        from streamlet.dsl.cogroup import CogroupedKStream  # it needs this module

        check_function(aggregator, "cogroup()", FOLD)
        return CogroupedKStream([(self, aggregator)])

    @overload
    def windowed_by(
        self, windows: TimeWindows | SlidingWindows | UnlimitedWindows, /
    ) -> TimeWindowedKStream[K_co, V_co]: ...
    @overload
    def windowed_by(self, windows: SessionWindows, /) -> SessionWindowedKStream[K_co, V_co]: ...
    def windowed_by(
        self, windows: TimeWindows | SlidingWindows | UnlimitedWindows | SessionWindows, /
    ) -> TimeWindowedKStream[K_co, V_co] | SessionWindowedKStream[K_co, V_co]:
        """Aggregate per window: the result's keys are `Windowed`.

        Args:
            windows: `TimeWindows`, `SlidingWindows`, `SessionWindows` or `UnlimitedWindows`.
        """
        from streamlet.dsl.windowed import SessionWindowedKStream, TimeWindowedKStream  # they need this module

        if isinstance(windows, SessionWindows):
            return SessionWindowedKStream(self, windows)
        if isinstance(windows, TimeWindows | SlidingWindows | UnlimitedWindows):
            return TimeWindowedKStream(self, windows)
        raise TopologyError(
            f"windowed_by takes TimeWindows, SlidingWindows, SessionWindows or UnlimitedWindows, not {windows!r}"
        )

    def _aggregated(
        self,
        prefix: str,
        serdes: Serdes | Callable[[str], Serdes],
        options: Materialized[Any],
        name: str | None,
        operator: Callable[[TableStep], Operator],
    ) -> KTable[Any, Any]:
        store = pending_store(self.plan, options, prefix, self.serdes, _ASK_STORE)
        node = self.plan.name(name, prefix)
        known = serdes if isinstance(serdes, Serdes) else serdes(node)
        store.serdes = known  # what an aggregate loses is lost at its node, whose name follows the store's
        parent, sources = self.repartitioned(store.name)
        step = TableStep(node, [parent], operator, store=store, materialized=True)
        self.plan.add(step)
        return KTable(self.plan, step, known, sources, options.name)

    def repartitioned(self, prefix: str) -> tuple[Step, frozenset[Step]]:
        """Return the step to aggregate behind, and its sources: after a repartition topic if one is needed.

        Args:
            prefix: Names the topic unless the user did; that of the store.
        """
        if not self._repartition_required:
            return self.step, self.sources
        if self._name is not None and self._repartitioned is not None:
            # a name that the user gave is one topic, however many aggregations; the numbers are used up all the same
            for kind in ("SINK", "FILTER", "SOURCE"):
                self.plan.number(f"KSTREAM-{kind}-")
            step = self._repartitioned
        else:
            step = self._repartitioned = insert_repartition(
                self.plan, self._name or prefix, self.step, self.serdes, _ASK
            )
        return step, frozenset({step})
