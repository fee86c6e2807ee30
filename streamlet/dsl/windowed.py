"""Windowed streams, and what is computed for each key and window: count, reduce, aggregate."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from streamlet import serdes as built_in
from streamlet.dsl.folding import COUNT, Folding, reducing
from streamlet.dsl.given import FOLD, MERGE, check_function
from streamlet.dsl.materialized import Materialized, Store, materialized
from streamlet.dsl.serde_flow import Ask, Serdes
from streamlet.dsl.table import KTable
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
from streamlet.records import Windowed

if TYPE_CHECKING:
    from streamlet.dsl.grouped import KGroupedStream

K_co = TypeVar("K_co", covariant=True)
V_co = TypeVar("V_co", covariant=True)
VA = TypeVar("VA")

_ASK = Ask("group_by(key_serde=...) or group_by_key(key_serde=...)", "store=Materialized(value_serde=...)")
_AGGREGATE = "KSTREAM-AGGREGATE-"
_REDUCE = "KSTREAM-REDUCE-"


class _Windowed(Generic[K_co, V_co]):
    """What windowed streams have in common."""

    def __init__(
        self,
        grouped: KGroupedStream[K_co, V_co],
        windows: Windows,
        emission: Emission = ON_UPDATE,
    ) -> None:
        self._grouped = grouped
        self._windows = windows
        self._emission = emission

    def emit_strategy(self, strategy: EmitStrategy, *, idle_after: timedelta | None = None) -> Self:
        """Choose when results are sent: at each update (the default), or once per window when it has closed.

        Args:
            strategy: When.
            idle_after: With ``ON_WINDOW_CLOSE``: when this aggregation's task has received no record for so long (wall
                clock), stream time goes on by the wall clock, so that the last windows close, too. Records that are
                behind it then are late. Default: windows wait for the next record.

        Raises:
            TopologyError: If windows that never close should be sent on closing, or `idle_after` is less than a
                millisecond or goes with another strategy.
        """
        return type(self)(self._grouped, self._windows, Emission.of(self._windows, strategy, idle_after))

    def count(self, *, store: Store[int] = None, name: str | None = None) -> KTable[Windowed[K_co], int]:
        """Count the records of each key and window; those without key are dropped.

        Args:
            store: Name or options of the store; its values are int64 unless another serde is given.
            name: Name of the node.
        """
        options = materialized(store, windowed=True)
        if store is not None and options.name is None and not isinstance(self._windows, SlidingWindows):
            self._grouped.plan.store_name(_AGGREGATE)  # a number that Kafka Streams uses up here, to stay compatible
        known = Serdes(self._grouped.serdes.key, options.value_serde or built_in.int64)
        return self._table(_AGGREGATE, COUNT, lambda node: known, options, name)

    def reduce(
        self, reducer: Callable[[V_co, V_co], V_co], *, store: Store[Any] = None, name: str | None = None
    ) -> KTable[Windowed[K_co], V_co]:
        """Combine the values of each key and window; records without key are dropped.

        Args:
            reducer: From the value so far and the next one to the new one; the first value is taken as it is. None
                deletes.
            store: Name or options of the store.
            name: Name of the node.
        """
        check_function(reducer, "reduce()", ("value so far", "next value"))
        options = materialized(store, windowed=True)
        known = self._grouped.serdes.given(value=options.value_serde)
        return self._table(_REDUCE, reducing(reducer), lambda node: known, options, name)

    def _aggregate(self, folding: Folding, store: Store[Any], name: str | None) -> KTable[Windowed[K_co], Any]:
        options = materialized(store, windowed=True)

        def known(node: str) -> Serdes:
            return self._grouped.serdes.losing_value(node, "aggregates").given(value=options.value_serde)

        return self._table(_AGGREGATE, folding, known, options, name)

    def _table(
        self,
        prefix: str,
        folding: Folding,
        known: Callable[[str], Serdes],
        options: Materialized[Any],
        name: str | None,
    ) -> KTable[Any, Any]:
        grouped, windows, emission = self._grouped, self._windows, self._emission
        plan = grouped.plan
        store_name = options.name or plan.store_name(prefix)
        node = plan.name(name, prefix)
        serdes = known(node)
        store = PendingWindowStore(store_name, options, serdes, _ASK, windows, emission.strategy)
        parent, sources = grouped.repartitioned(store_name)
        step = WindowedTableStep(
            node,
            [parent],
            lambda step: aggregation(windows, folding, emission, store_name, step.sends_old_values),
            store=store,
            windows=windows,
            emit=emission.strategy,
        )
        plan.add(step)
        return KTable(plan, step, windowed_serdes(serdes, windows), sources, options.name)


class TimeWindowedKStream(_Windowed[K_co, V_co]):
    """A grouped stream in time windows, to be aggregated. Made by `KGroupedStream.windowed_by`.

    Each record is put into all its windows. A window takes late records for its grace, in stream time as this operator
    sees it: the highest timestamp of its task so far.
    """

    def __init__(
        self,
        grouped: KGroupedStream[K_co, V_co],
        windows: TimeWindows | SlidingWindows | UnlimitedWindows,
        emission: Emission = ON_UPDATE,
    ) -> None:
        super().__init__(grouped, windows, emission)

    def aggregate(
        self,
        initializer: Callable[[], VA],
        aggregator: Callable[[K_co, V_co, VA], VA | None],
        *,
        store: Store[VA] = None,
        name: str | None = None,
    ) -> KTable[Windowed[K_co], VA]:
        """Fold the values of each key and window into an aggregate; records without key are dropped.

        Args:
            initializer: Returns the aggregate before the first record.
            aggregator: From key, value and the aggregate so far to the new one; None deletes it.
            store: Name or options of the store; the aggregate needs a value_serde.
            name: Name of the node.
        """
        check_function(initializer, "aggregate(), as initializer,", ())
        check_function(aggregator, "aggregate()", FOLD)
        return self._aggregate(Folding(initializer, aggregator), store, name)


class SessionWindowedKStream(_Windowed[K_co, V_co]):
    """A grouped stream in sessions, to be aggregated. Made by `KGroupedStream.windowed_by`.

    When sessions are merged, or one grows, the old ones are deleted first: the table sends a deletion for each, then
    the new session.
    """

    def __init__(
        self,
        grouped: KGroupedStream[K_co, V_co],
        windows: SessionWindows,
        emission: Emission = ON_UPDATE,
    ) -> None:
        super().__init__(grouped, windows, emission)

    def aggregate(
        self,
        initializer: Callable[[], VA],
        aggregator: Callable[[K_co, V_co, VA], VA | None],
        session_merger: Callable[[K_co, VA, VA], VA],
        *,
        store: Store[VA] = None,
        name: str | None = None,
    ) -> KTable[Windowed[K_co], VA]:
        """Fold the values of each key and session into an aggregate; records without key are dropped.

        Args:
            initializer: Returns the aggregate before the first record.
            aggregator: From key, value and the aggregate so far to the new one; None deletes it.
            session_merger: From key and the aggregates of two sessions to that of the merged one. Called first with
                what `initializer` returned and the first session, then on with each further one; the new record's
                value is aggregated last.
            store: Name or options of the store; the aggregate needs a value_serde.
            name: Name of the node.
        """
        check_function(initializer, "aggregate(), as initializer,", ())
        check_function(aggregator, "aggregate()", FOLD)
        check_function(session_merger, "aggregate(), as session merger,", MERGE)
        return self._aggregate(Folding(initializer, aggregator, session_merger), store, name)
